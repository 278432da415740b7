"""Where a run comes from: the code's commit, and who started it."""

import getpass
import os
import subprocess
import sys
from pathlib import Path

import thawlab
from thawlab.tracking.processes import PROCESS_TAG, this_process

_PACKAGE = Path(thawlab.__file__).parent
# What is new and not committed counts where it can change a run: a backbone or a study, not a folder of photographs.
_CODE = ("*.py", "*.yaml", "*.yml", "*.toml")


def system_tags() -> dict[str, str]:
    """Tags that say which code made a run, who started it and in which process.

    The commit is that of the repository that holds thawlab's own code; for an installed package, that of the current
    folder's repository. Without a repository, or without git, `git_commit` and `git_dirty` are left out.
    """
    tags = {
        "thawlab_version": thawlab.__version__,
        PROCESS_TAG: this_process(),
        "mlflow.source.name": Path(sys.argv[0] or "python").name,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }
    holds_the_code = _git(_PACKAGE, "ls-files", "--error-unmatch", "__init__.py") is not None
    folder = _PACKAGE if holds_the_code else Path.cwd()
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    new = _git(folder, "status", "--porcelain", "--untracked-files=all", "--", *(f":(top){each}" for each in _CODE))
    if commit and changed is not None:
        # MLflow's own tag as well: its page shows that one beside the source.
        dirty = str(bool(changed or new)).lower()
        tags |= {"git_commit": commit, "git_dirty": dirty, "mlflow.source.git.commit": commit}
    return tags


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without an entry in the password file
        return str(os.getuid())


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
