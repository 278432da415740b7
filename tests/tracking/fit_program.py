"""A real Lightning fit inside a tracked run, for the tests that end it from outside.

    python fit_program.py ROOT NAME [--workers N] [--fail] [--before-fit]

Prints READY once it is worth interrupting, and exits as a command line should.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from thawlab.tracking.lifecycle import Interrupted, tracked
from thawlab.tracking.run import Run, start_run
from thawlab.tracking.store import open_store


def fit(run: Run, workers: int, fail: bool) -> None:
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    class Slow(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def training_step(self, batch, index):
            if index == 3:
                run.log_metrics({"train/loss": 0.5}, step=0)
                if fail:
                    raise RuntimeError("the loss went through the roof")
                print("READY", flush=True)
            time.sleep(0.02)
            return self.layer(batch[0]).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    loader = DataLoader(TensorDataset(torch.randn(20_000, 4)), batch_size=2, num_workers=workers)
    trainer = pl.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
    )
    trainer.fit(Slow(), loader)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("name")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--before-fit", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started with it ignored
    tags = {"config_hash": args.name, "output_dir": str(args.root)}
    run = start_run(open_store(None, args.root), "endings", name=args.name, params={}, tags=tags)
    try:
        with tracked([run]):
            if args.before_fit:
                print("READY", flush=True)
                time.sleep(60)
            fit(run, args.workers, args.fail)
    except Interrupted as stop:
        return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
