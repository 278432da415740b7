"""What torch.save wrote, read without running code from it: the weights, and nothing in place of settings."""

import pickle
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

# Packages whose objects lie beside the weights as settings, counts and states of optimizers. None is made: where the
# file asks for one, it gets an object that does nothing.
SETTINGS = (
    *("argparse", "collections", "copyreg", "datetime", "decimal", "enum", "functools", "pathlib", "typing", "uuid"),
    *("numpy", "omegaconf", "yacs", "easydict", "addict", "box", "ml_collections", "__main__"),
    *("lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities", "torchmetrics"),
    *("torch.optim", "torch.torch_version", "timm.utils", "timm.scheduler", "timm.optim"),
)
_BUILTINS = frozenset(
    f"builtins.{kind.__name__}"
    for kind in (dict, list, tuple, frozenset, int, float, str, bool, bytes, object, slice, range)
)
_DICTIONARIES = frozenset(("defaultdict", "AttributeDict", "EasyDict", "Dict", "CfgNode", "Box", "ConfigDict"))


class Skipped:
    """Stands where a file has an object that is no weight; it is made of anything and holds nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


class _SkippedDictionary:
    """As above for subclasses of dict, whose entries the file sets one by one."""

    def __new__(cls, *_: object) -> OrderedDict[str, Any]:  # type: ignore[misc]
        return OrderedDict()


class NotWeightsError(ValueError):
    """What is in the way of the weights, and what to do."""


def load(path: Path) -> Any:
    """The content of a file of torch.save, with `Skipped` for the settings in it.

    Raises:
        NotWeightsError: the file is damaged, or has objects that are neither weights nor settings.
    """
    try:
        found = set(_globals(path))
        # Not by its path, from whose ending torch would conclude what is in it.
        with path.open("rb") as file, torch.serialization.safe_globals(list(_stand_ins(found))):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise NotWeightsError(_refusal(str(error))) from error
    # Torch and the unpickler raise whatever they stumbled on in bytes that are no pickle.
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotWeightsError("damaged or incomplete; download or copy it again") from error


def _refusal(said: str) -> str:
    if match := re.search(r"GLOBAL (\S+)", said):
        return (
            f"holds an object of {match[1]}, which would have to run code to be loaded; not weights alone. Where you "
            "trust the file, load it and save only `model.state_dict()` with torch.save or safetensors"
        )
    if "persistent" in said or "operand" in said:
        return (
            "written in another form of pickle than torch.save's own; load it where it was written and save its "
            "state_dict by torch.save without more arguments, or as safetensors"
        )
    return "not weights that can be loaded without running code from the file; save only a state_dict"


def _globals(path: Path) -> Iterator[str]:
    """The classes and functions that the file names; reading them runs nothing."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(4):  # a magic number, the version, facts of the machine, and the content
                yield from _named_in(file)
        return
    with zipfile.ZipFile(path) as archive:
        inner = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
        with archive.open(inner) as file:
            yield from _named_in(file)


def _named_in(file: IO[bytes]) -> Iterator[str]:
    for operation, argument, _ in pickletools.genops(file):
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            yield f"{module}.{name}"


def _stand_ins(found: set[str]) -> Iterator[tuple[Callable[..., Any], str]]:
    for name in sorted(found):
        if name in _BUILTINS or any(name.startswith(f"{package}.") for package in SETTINGS):
            last = name.rpartition(".")[2]
            yield (_SkippedDictionary if last in _DICTIONARIES else Skipped), name
