"""The packages a run was made with, as a requirements file."""

import platform
from importlib.metadata import distributions
from pathlib import Path

from thawlab.system.atomic import write_atomically


def environment(path: Path) -> None:
    """Write the installed packages as a requirements file, Python and the platform in its first line.

    Names and versions only: the folder, index or address that a package came from stays private.
    """
    versions = packages()
    lines = [f"# Python {platform.python_version()} on {platform.platform()}"]
    lines += [f"{name}=={versions[name]}" for name in sorted(versions, key=str.lower)]
    write_atomically(path, "\n".join(lines) + "\n")


def packages() -> dict[str, str]:
    """The version of each installed package."""
    read = [found.metadata for found in distributions()]  # once each: it parses a file
    return {found["Name"]: found["Version"] for found in read if found["Name"]}
