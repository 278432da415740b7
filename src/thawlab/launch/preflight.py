"""What can be known to be wrong with a run before torch or MLflow is loaded: folders, files, addresses."""

import os
from collections.abc import Iterator
from pathlib import Path

from thawlab.backbones.file_kinds import not_weights
from thawlab.config.schema import Config, ConfigError, name_of
from thawlab.data.sources.contract import SOURCES, ChecksSettings
from thawlab.tracking import addresses


def check_store(config: Config, contact: bool = True) -> None:
    """Look at where a run is to be recorded.

    Args:
        config: of the run.
        contact: whether a server is asked if it is there.

    Raises:
        ConfigError: a mistyped address, a folder that cannot be written to, a server that is not there.
    """
    mistakes = list(_store_mistakes(config, contact))
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def check_inputs(config: Config) -> None:
    """Look at what a run is to read.

    Raises:
        ConfigError: a data set's folder or a file of weights that is not there; a line for each.
    """
    mistakes = [*_dataset_mistakes(config), *_weights_mistakes(config)]
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def _store_mistakes(config: Config, contact: bool) -> Iterator[str]:
    key, address = addresses.given(config.tracking.uri)
    wrong = addresses.mistake(key, address) if address else None
    if wrong:
        yield wrong
    elif address is None or address.startswith("sqlite"):
        root = Path(config.tracking.root).absolute()
        database = addresses.sqlite_path(address) if address else root / "mlflow.db"
        reason = _unwritable(database)
        if reason and address is None:
            yield f"tracking.root={config.tracking.root}: {reason}; use tracking.root=FOLDER that you can write to"
        elif reason:
            yield f"{key}={address}: {reason}; use tracking.uri=sqlite:////FOLDER/mlflow.db in one you can write to"
    elif contact and (gone := addresses.unreachable(key, address)):
        yield gone


def _unwritable(database: Path) -> str | None:
    """Why a database cannot be made or written there; None if it looks as if it can."""
    if database.exists():
        if not database.is_file():
            return f"{database} is no file"
        return None if os.access(database, os.R_OK | os.W_OK) else f"{database} may not be written"
    folder = next(each for each in database.parents if os.path.lexists(each))
    if not folder.is_dir():
        return f"{folder} is {'a file' if folder.is_file() else 'no folder'}, where a folder should be"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"nothing can be written in {folder}"


def _dataset_mistakes(config: Config) -> list[str]:
    source = SOURCES.load(name_of(config.dataset))
    if not isinstance(source, ChecksSettings):
        return []
    try:
        source.check(config.dataset)
    except (ValueError, OSError) as error:
        return [str(error)]
    return []


def _weights_mistakes(config: Config) -> Iterator[str]:
    path = config.backbone.checkpoint_path
    if path is None or path.startswith("run:"):
        return
    told = f"backbone.checkpoint_path={path}"
    try:
        file = Path(path).expanduser()
    except RuntimeError:  # no such user, or nobody knows where home is
        yield f"{told}: there is no such home folder; write the path in full"
        return
    if not file.exists():
        yield f"{told}: no such file; here is {Path.cwd()}"
    elif not os.access(file, os.R_OK):
        yield f"{told}: this file may not be read; give yourself the permission"
    elif meaning := not_weights(file):
        yield f"{told}: {meaning}"
