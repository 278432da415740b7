"""The digests of the weights that jobs start with, computed from the network that has them, as their runs do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thawlab.config.schema import Config, name_of
from thawlab.data.sources.contract import SOURCES
from thawlab.launch import parsing

_RUN = "run:"  # what a `backbone.checkpoint_path` begins with that names an earlier run
_CLASSES = 2  # the head is no part of the digest


def weights_digests(asked: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """The digests by the keys of what was asked, and what cannot be read, in sentences.

    Args:
        asked: by any key the configuration of a job, as plain nested values.
    """
    found: dict[str, str] = {}
    mistakes = []
    for key, content in asked.items():
        try:
            found[key] = _digest(parsing.parse(content))
        except (ValueError, OSError) as error:
            mistakes.append(str(error))
    return found, mistakes


def _digest(config: Config) -> str:
    from thawlab.backbones.weights import build, has_fixed_size

    backbone, size = config.backbone, config.image_size
    if size is None and has_fixed_size(backbone.name):
        size = SOURCES.load(name_of(config.dataset)).load(config.dataset).image_size
    path = backbone.checkpoint_path
    if path is not None and path.startswith(_RUN):
        path = str(_kept(config, path.removeprefix(_RUN)))
    return build(
        backbone.name,
        _CLASSES,
        pretrained=backbone.pretrained,
        bundled=backbone.bundled,
        checkpoint_path=path,
        image_size=size,
    ).weights_digest


def _kept(config: Config, run_id: str) -> Path:
    from thawlab.tracking.checkpoints import checkpoint_of
    from thawlab.tracking.store import open_store

    store = open_store(config.tracking.uri, Path(config.tracking.root))
    return checkpoint_of(store, run_id, "backbone.checkpoint_path")
