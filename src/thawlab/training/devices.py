"""Which devices there are to train on; asking for others is refused before anything is built."""

from thawlab.config.schema import ConfigError, Trainer


def device_count(settings: Trainer) -> int:
    """How many processes train, one a device."""
    import torch

    if settings.devices != "auto":
        return settings.devices
    uses_gpus = settings.name == "ddp" and settings.accelerator != "cpu" and torch.cuda.is_available()
    return torch.cuda.device_count() if uses_gpus else 1


def check_devices(settings: Trainer) -> None:
    """Refuse devices that are not there.

    Raises:
        ConfigError: with what there is.
    """
    devices = 1 if settings.devices == "auto" else settings.devices
    if settings.accelerator == "cpu" or (settings.accelerator == "auto" and devices == 1):
        return  # nothing can be missing, and torch need not be loaded to know it
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else int(torch.backends.mps.is_available())
    if not there and settings.accelerator == "gpu":
        given = "trainer=gpu" if settings.name == "gpu" else "trainer.accelerator=gpu"
        why = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch sees none here"
        raise ConfigError(
            f"{given}: there is no GPU to train on ({why}: {torch.__version__}); use trainer=auto or trainer=cpu, or "
            "look at nvidia-smi, CUDA_VISIBLE_DEVICES and the build of PyTorch"
        )
    if there and devices > there:
        raise ConfigError(
            f"trainer.devices={devices}: there {'is 1 GPU' if there == 1 else f'are {there} GPUs'} to train on; use at "
            f"most {there}, or trainer.accelerator=cpu"
        )
