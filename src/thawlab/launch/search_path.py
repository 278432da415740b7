"""Where Hydra finds configuration: the files in conf/, the studies in experiments/, and names that need no file."""

from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from thawlab.config import timm_names

_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parents[1]
# The choices that need no file: the group, its names, and the file in conf/ that holds the other settings.
_NAMED = {"backbone": timm_names.architectures, "optimizer": timm_names.optimizers}


def conf_dir() -> Path:
    """The folder of the Hydra tree: inside an installed package, or at the top of a checkout."""
    installed = _PACKAGE / "conf"
    return installed if installed.is_dir() else _CHECKOUT / "conf"


def experiment_dirs() -> list[Path]:
    """Where `experiment=NAME` is looked for: the working directory's own experiments/ first."""
    installed = _PACKAGE / "experiments"
    shipped = installed if installed.is_dir() else _CHECKOUT / "experiments"
    return list(dict.fromkeys(path for path in (Path("experiments").resolve(), shipped) if path.is_dir()))


def experiments() -> dict[str, Path]:
    """The studies by name; a user's own goes before a shipped one of the same name."""
    found = [path for folder in reversed(experiment_dirs()) for path in sorted(folder.glob("*.yaml"))]
    return {path.stem: path for path in found}


class ThawlabSource(ConfigSource):
    """Answers `experiment=NAME` from experiments/, and `backbone=NAME`, `optimizer=NAME` for every name timm has."""

    @staticmethod
    def scheme() -> str:
        return "thawlab"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in ("", "experiment", *_NAMED)

    def is_config(self, config_path: str) -> bool:
        group, _, name = config_path.removesuffix(".yaml").strip("/").partition("/")
        if group == "experiment":
            return name in experiments()
        # A pretrained tag (resnet50.a1_in1k) is checked when timm is loaded: its list cannot be read without.
        return group in _NAMED and name.partition(".")[0] in _NAMED[group]()

    def load_config(self, config_path: str) -> ConfigResult:
        group, _, name = config_path.removesuffix(".yaml").strip("/").partition("/")
        path = experiments()[name] if group == "experiment" else conf_dir() / group / "timm.yaml"
        text = path.read_text(encoding="utf-8")
        config: Any = OmegaConf.create(text)
        if group in _NAMED:
            config.name = name
        return ConfigResult(
            provider=self.provider, path=str(path), config=config, header=self._get_header_dict(text[:512])
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path.strip("/") == "experiment" and results_filter in (None, ObjectType.CONFIG):
            return sorted(experiments())
        return ["experiment"] if config_path.strip("/") == "" and results_filter != ObjectType.CONFIG else []


def register() -> None:
    """Make the `thawlab://` source known to Hydra."""
    Plugins.instance().register(ThawlabSource)
