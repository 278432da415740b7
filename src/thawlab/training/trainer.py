"""Fitting one phase with Lightning: devices, precision, checkpoints, and what is told to the user and the tracker."""

import logging
import platform
import resource
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar, WeightAveraging
from pytorch_lightning.plugins import environments
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from thawlab.config.schema import Trainer as Settings
from thawlab.config.small_data import Rule
from thawlab.system.process_rank import has_rank, local_world_size, world_size
from thawlab.training.best_epoch import Best, BestEpoch
from thawlab.training.checkpoints import AtomicCheckpoints, Kept
from thawlab.training.devices import device_count
from thawlab.training.epochs import EpochReport, Epochs

C = TypeVar("C", bound=pl.Callback)


@dataclass(frozen=True)
class CheckpointFacts:
    """What every checkpoint of a phase says of itself.

    Attributes:
        run_id: the MLflow run.
        phase: its name.
        number: of the phase in the run, from 1.
        first_epoch: epochs of the phases before it.
        groups: names of the parameter groups that it trains.
    """

    run_id: str = ""
    phase: str = ""
    number: int = 1
    first_epoch: int = 0
    groups: tuple[str, ...] = ()


def quiet_lightning() -> None:
    """Leave out Lightning's remarks on devices and products; its warnings stay."""
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # of torch's own, through Lightning
    warnings.filterwarnings("ignore", message=".*Encountered `nan` values.*")  # such a run is stopped, and says so
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # chosen from the cores
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # that of a resumed run is not
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")  # version 0.1.0 had others


def build_trainer(
    settings: Settings,
    epochs: int,
    folder: Path,
    report: EpochReport,
    facts: CheckpointFacts | None = None,
    rule: Rule | None = "acc",
    beside: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """A Lightning Trainer for one phase that keeps `last.ckpt` and, by the rule, `best.ckpt` in the folder.

    Without a rule it keeps none; `beside` are further callbacks.
    """
    on_gpu = _on_gpu(settings)
    facts = facts or CheckpointFacts()
    callbacks: list[pl.Callback] = [Epochs(report, facts.first_epoch)]
    if rule is not None:
        callbacks += [CheckpointMetadata(facts), BestEpoch(folder, rule, settings.patience), _last_checkpoint(folder)]
    if settings.ema is not None:
        callbacks.append(WeightAveraging(multi_avg_fn=_moving_average(settings.ema)))
    if sys.stdout.isatty():
        callbacks.append(RichProgressBar(leave=False))
    return pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=device_count(settings),
        num_nodes=world_size() // local_world_size(),
        strategy=DDPStrategy(process_group_backend="nccl" if on_gpu else "gloo") if settings.name == "ddp" else "auto",
        # Else Lightning takes variables of SLURM, LSF or Kubernetes for those of processes that it has to wait for.
        plugins=[_environment(), AtomicCheckpoints()],
        precision=precision_name(settings),  # type: ignore[arg-type]
        max_epochs=epochs,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip,
        callbacks=[*callbacks, *beside],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=rule is not None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the DataModule deals the samples out itself, without duplicates
        enable_progress_bar=sys.stdout.isatty(),
        enable_model_summary=False,
        inference_mode=False,  # tensors made under inference mode cannot be trained on later
    )


def _environment() -> Any:
    name = "TorchElasticEnvironment" if has_rank() else "LightningEnvironment"
    return getattr(environments, name)()


def device_description(trainer: pl.Trainer) -> str:
    """Where it computes, as far as that decides the last bits of a result: `cpu on x86_64, 2 threads`, or the GPU."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device} on {platform.machine()}, {threads} thread{'s' * (threads > 1)}"


def callbacks_of(trainer: pl.Trainer, kind: type[C]) -> list[C]:
    """The trainer's callbacks of a kind, in their order."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  (set, and declared nowhere)
    return [each for each in callbacks if isinstance(each, kind)]


def best_epoch(trainer: pl.Trainer) -> Best:
    """The best epoch of the phase that the trainer has fitted."""
    best = callbacks_of(trainer, BestEpoch)[0].best
    if best is None:
        raise RuntimeError("training ended before its first epoch did")
    return best


def peak_memory_mb() -> float:
    """Most memory used so far: on the GPU if this process used one, else of this process."""
    if torch.cuda.is_initialized() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated() / 2**20
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def size_and_memory(model: nn.Module, trained: Collection[str]) -> dict[str, float]:
    """What a run cost beside time: memory, and how many parameters there are and are trained, by their MLflow names."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return {
        "cost/peak_memory_mb": peak_memory_mb(),
        "cost/trainable_params": float(sum(sizes[name] for name in trained)),
        "cost/total_params": float(sum(sizes.values())),
    }


def _last_checkpoint(folder: Path) -> Kept:
    return Kept(
        filename="last",
        monitor=None,
        save_top_k=1,
        dirpath=folder,
        enable_version_counter=False,
        auto_insert_metric_name=False,
        save_on_train_epoch_end=True,  # an epoch is complete, validation included: a resume starts the next one
    )


def _moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """Not Lightning's EMAWeightAveraging: that rounds a frozen weight to other bits, and counts of batches down."""
    interpolate = get_ema_multi_avg_fn(decay)  # exact where both are equal

    @torch.no_grad()
    def update(averages: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
        if averages[0].is_floating_point():
            interpolate(averages, current, updates)
        else:
            for average, value in zip(averages, current, strict=True):
                average.copy_(value)

    return update


def _on_gpu(settings: Settings) -> bool:
    return settings.accelerator == "gpu" or (settings.accelerator == "auto" and torch.cuda.is_available())


def precision_name(settings: Settings) -> str:
    """What steps are computed in, by Lightning's name for it."""
    precision = settings.precision
    if precision == "auto":
        precision = ("bf16" if torch.cuda.is_bf16_supported() else 16) if _on_gpu(settings) else 32
    return {32: "32-true", 16: "16-mixed", "bf16": "bf16-mixed"}[precision]


class CheckpointMetadata(pl.Callback):
    """Writes into every checkpoint what it is of, and refuses to go on with that of another phase."""

    def __init__(self, facts: CheckpointFacts) -> None:
        self.facts = facts

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        content = {**asdict(self.facts), "groups": list(self.facts.groups)}
        checkpoint["thawlab"] = {**content, "epoch": self.facts.first_epoch + trainer.current_epoch}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        found = checkpoint.get("thawlab", {})
        for key, mine in (("phase", self.facts.phase), ("groups", list(self.facts.groups))):
            if found.get(key) != mine:
                raise RuntimeError(f"the checkpoint's {key} is {found.get(key)!r}, yet this phase's is {mine!r}")
