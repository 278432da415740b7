"""What a machine is, without saying whose: the description that is kept beside every result."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from thawlab.data.cpu_and_memory import available_cores

_PACKAGES = ("thawlab", "torch", "torchvision", "timm", "pytorch-lightning", "pillow", "numpy")


def describe() -> dict[str, Any]:
    """Processor, cores, memory, GPU, system and the versions that matter."""
    return {
        "cpu": _cpu(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def load() -> list[float]:
    """How busy the machine is: the load averages of 1, 5 and 15 minutes."""
    return [round(value, 1) for value in os.getloadavg()]


def slug(machine: dict[str, Any]) -> str:
    """A short name for file names: "amd-epyc-2-cores", "h100-80gb-hbm3"."""
    name = machine["gpu"] or f"{machine['cpu']} {machine['cores']} cores"
    name = re.sub(r"\((?:r|tm)\)|nvidia|cpu|processor|@.*?ghz", "", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()
