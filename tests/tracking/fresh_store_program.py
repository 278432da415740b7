"""One job of a parallel sweep: python fresh_store_program.py ROOT NAME."""

import sys
from pathlib import Path

from thawlab.tracking.lifecycle import tracked
from thawlab.tracking.run import start_run
from thawlab.tracking.store import open_store

run = start_run(open_store(None, Path(sys.argv[1])), "sweep", name=sys.argv[2], params={"job": sys.argv[2]}, tags={})
with tracked([run]):
    for epoch in range(3):
        run.log_metrics({"train/loss": 1.0 / (epoch + 1), "val/acc": epoch / 3}, step=epoch)
    run.log_text(sys.argv[2], "config/config.yaml")
