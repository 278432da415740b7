"""What a job is made from beside its settings: its images and the weights it starts with, by their digests.

A run that was done before stands for a job only if both are the same. The digests of images are computed here, from the
hashes of the files and without torch; those of weights in the process of `sweep_checks`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thawlab.config.job import values
from thawlab.config.kinds import MeantEarlier, settings
from thawlab.config.schema import Config, ConfigError, name_of
from thawlab.data.sources.contract import SOURCES

if TYPE_CHECKING:
    from thawlab.tracking.run_record import RunRecord

_DATA, _WEIGHTS, _VERSION = "dataset_digest", "weights_digest", "thawlab_version"  # tags of a run


@dataclass(frozen=True)
class Inputs:
    """What a job would be made from now.

    Attributes:
        data: digest of its images, labels and splits.
        weights: digest of the weights that it loads; None if it loads none, since its seed decides then.
        version: of thawlab.
    """

    data: str
    weights: str | None
    version: str

    def difference(self, run: "RunRecord") -> str | None:
        """Why a run of the same settings does not stand for the job; None if it does."""
        if _major(run.tags.get(_VERSION, "")) != _major(self.version):
            return f"thawlab has changed since ({run.tags.get(_VERSION) or 'an unknown version'}, now {self.version})"
        if run.tags.get(_DATA) != self.data:
            return "the images have changed since"
        if self.weights is not None and run.tags.get(_WEIGHTS) != self.weights:
            return "the pretrained weights have changed since"
        return _meant_otherwise(run)


@dataclass
class InputsNow:
    """The inputs of any job, each digest computed once, when it is first asked for.

    Attributes:
        weights: gives the digests of the weights that jobs load, by `weights_key`; it may have to wait for them.
        version: of thawlab.
    """

    weights: Callable[[], Mapping[str, str]]
    version: str
    _data: dict[str, str] = field(default_factory=dict)

    def of(self, config: Config) -> Inputs:
        """Those of a job, or of one of the heads that it trains together.

        Raises:
            ConfigError: its images cannot be read.
        """
        key, dataset = weights_key(config), json.dumps(values(config.dataset))
        if dataset not in self._data:
            self._data[dataset] = _data_digest(config)
        return Inputs(self._data[dataset], None if key is None else self.weights()[key], self.version)


def weights_key(config: Config) -> str | None:
    """Agrees for jobs that load the same weights; None for one that loads none."""
    backbone = config.backbone
    if not backbone.pretrained and backbone.checkpoint_path is None:
        return None
    content: dict[str, Any] = {"backbone": values(backbone), "image_size": config.image_size}
    if config.image_size is None:  # then the images decide, and position embeddings have the size of an image
        content["dataset"] = values(config.dataset)
    return json.dumps(content)


def _data_digest(config: Config) -> str:
    try:
        return SOURCES.load(name_of(config.dataset)).load(config.dataset).digest
    except ConfigError:
        raise
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error


def _meant_otherwise(run: "RunRecord") -> str | None:
    """A setting of the run that stands for something else today, though its value is the same; None if none does."""
    for setting in settings(Config):
        for mark in setting.marks:
            earlier = isinstance(mark, MeantEarlier) and mark.without not in run.params
            if earlier and run.params.get(setting.key) == str(mark.value):
                return f"{setting.key}={mark.value} stood for what {setting.key}={mark.now} is now"
    return None


def _major(version: str) -> str:
    return version.partition(".")[0].partition("+")[0]
