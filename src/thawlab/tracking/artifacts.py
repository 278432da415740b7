"""Files that runs keep in MLflow: fetched, and the list of packages that a run was made with."""

import platform
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from mlflow.artifacts import download_artifacts

from thawlab.system.atomic import write_atomically
from thawlab.tracking.store import Store


def fetch(store: Store, run_id: str, path: str, folder: Path | None = None) -> Path | None:
    """A file that a run kept, copied into `folder`, or one of its own, if it lies elsewhere; None if it has none."""
    if path not in [found.path for found in store.client().list_artifacts(run_id, path.rpartition("/")[0])]:
        return None
    target = None if folder is None else str(folder)
    return Path(download_artifacts(run_id=run_id, artifact_path=path, dst_path=target, tracking_uri=store.uri))


def environment(path: Path) -> None:
    """Write the installed packages as a requirements file, Python and the platform in its first line.

    Names and versions only: the folder, index or address that a package came from stays private.
    """
    versions = packages()
    lines = [f"# Python {platform.python_version()} on {platform.platform()}"]
    lines += [f"{name}=={versions[name]}" for name in sorted(versions, key=str.lower)]
    write_atomically(path, "\n".join(lines) + "\n")


@cache
def packages() -> dict[str, str]:
    """The version of each installed package."""
    read = [found.metadata for found in distributions()]  # once each: it parses a file
    return {found["Name"]: found["Version"] for found in read if found["Name"]}
