"""What timm offers, read from its source files: importing timm loads torch, which takes seconds."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def _timm() -> Path:
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("timm is not installed; it is a requirement of thawlab")
    return Path(spec.origin).parent


@cache
def architectures() -> frozenset[str]:
    """Names of all timm architectures, the same as `timm.list_models()`."""
    found: set[str] = set()
    for file in (_timm() / "models").glob("*.py"):
        found.update(re.findall(r"@register_model\s*\ndef (\w+)\(", file.read_text(encoding="utf-8")))
    return frozenset(found)


@cache
def optimizers() -> frozenset[str]:
    """Names of timm's optimizers and their aliases, as in `timm.optim.list_optimizers()`."""
    text = (_timm() / "optim" / "_optim_factory.py").read_text(encoding="utf-8")
    return frozenset(re.findall(r"(?:\bname=|OptimInfo\(\s*|register_alias\()'(\w+)'", text))
