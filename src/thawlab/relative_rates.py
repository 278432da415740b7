"""Learning rates that follow the gradients: each group's is scaled, every epoch, by its relative gradient norm."""

from collections.abc import Callable, Iterable

import pytorch_lightning as pl
from torch import Tensor
from torch.optim import Optimizer

from thawlab.gradients import relative_gradients
from thawlab.inference import ImageClassifier

_KEY = "rate_scale"  # in an optimizer's group, and so in every checkpoint: the scale that its rates have now
_RATES = ("lr", "initial_lr", "max_lr", "min_lr")  # all that torch's schedulers compute from


class RelativeRates(pl.Callback):
    """Auto-RGN (Lee et al. 2023): rate times ‖g‖/‖w‖, as a share of the largest of all groups.

    Args:
        batches: makes the images and labels on which the gradients are measured, the same in every process.
    """

    def __init__(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        self.batches = batches

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ImageClassifier)
        groups = {group.name: group.parameters for group in pl_module.phase.groups}
        sizes = relative_gradients(pl_module.model, groups, self.batches())
        sizes = trainer.strategy.broadcast(sizes)  # GPUs need not agree to the last bit
        largest = max(sizes.values())
        scales = {name: size / largest if largest else 1.0 for name, size in sizes.items()}
        for config in trainer.lr_scheduler_configs:
            scale_rates(trainer.optimizers[0], config.scheduler, scales)


def scale_rates(optimizer: Optimizer, scheduler: object, scales: dict[str, float]) -> None:
    """Set each group's rates to the scale of its name times what they would be without any.

    Args:
        optimizer: its groups have names; those of "NAME" and "NAME (no decay)" are one.
        scheduler: of torch; its base rates follow.
        scales: by name.
    """
    bases = getattr(scheduler, "base_lrs", [])
    for index, group in enumerate(optimizer.param_groups):
        scale = scales[group["name"].removesuffix(" (no decay)")]
        scale = max(scale, 1e-12)  # from nothing there would be no way back
        factor = scale / group.get(_KEY, 1.0)
        group[_KEY] = scale
        for key in _RATES:
            if key in group:
                group[key] = group[key] * factor
        if index < len(bases):
            bases[index] *= factor
