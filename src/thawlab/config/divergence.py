"""Training that has left the finite numbers: what is raised, and what it says."""


class DivergedError(RuntimeError):
    """The loss, or what the network says, is no finite number; the message says what to try.

    Attributes:
        where: `epoch 2, step 7`, or whatever showed it.
    """

    def __init__(self, message: str, where: str) -> None:
        super().__init__(message)
        self.where = where


def diverged(what: str, lr: float, epoch: int, step: int | None = None) -> DivergedError:
    """The error of a loss that is not finite.

    Args:
        what: `training loss`, `validation loss`.
        lr: highest learning rate that is configured.
        epoch: from 1, over all phases.
        step: from 1, in the epoch; None after its last.
    """
    where = f"epoch {epoch}" if step is None else f"epoch {epoch}, step {step}"
    if (epoch, step) == (1, 1):
        return DivergedError(
            f"{where}: the {what} is not finite before anything was trained; look at the weights "
            "(backbone.checkpoint_path) and the images, or use trainer.precision=32",
            where,
        )
    return DivergedError(
        f"optimizer.lr={lr:g}: the {what} is not finite (NaN or infinite) in {where}, the run has diverged; use a "
        f"smaller optimizer.lr, such as {min(lr / 10, 0.01):.2g}, a smaller trainer.clip, or trainer.precision=32",
        where,
    )
