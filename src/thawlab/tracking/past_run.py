"""What a finished run has to be compared with when it is repeated: its predictions, its data, its environment."""

import json
from pathlib import Path

from thawlab.tracking.artifacts import fetch, packages
from thawlab.tracking.origin import system_tags
from thawlab.tracking.prediction_files import PREDICTIONS
from thawlab.tracking.store import Store, impatient, plain_messages

_REQUIREMENTS = "environment/requirements.txt"
_CODE = {"git_commit": "commit", "git_dirty": "uncommitted changes", "thawlab_version": "thawlab"}


def experiment_name(store: Store, experiment_id: str) -> str:
    """What the experiment is called."""
    with plain_messages(store), impatient():
        return store.client().get_experiment(experiment_id).name


def children(store: Store, experiment_id: str, parent_id: str) -> list[str]:
    """The ids of the runs below a parent run, the oldest first."""
    with plain_messages(store), impatient():
        runs = store.client().search_runs(
            [experiment_id], f"tags.mlflow.parentRunId = '{parent_id}'", order_by=["attributes.start_time ASC"]
        )
    return [run.info.run_id for run in runs]


def prediction_file(store: Store, run_id: str) -> Path | None:
    """The file of predictions that a run kept; None if it kept none."""
    return _download(store, run_id, PREDICTIONS)


def dataset_sizes(store: Store, run_id: str) -> dict[str, int]:
    """How many samples a run had in each part, "train", "val" and "test", as far as it says so."""
    with plain_messages(store), impatient():
        run = store.client().get_run(run_id)
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return {
        each.dataset.name.rpartition("/")[2]: json.loads(each.dataset.profile)["num_rows"]
        for each in inputs
        if each.dataset.profile
    }


def environment_changes(store: Store, run_id: str) -> list[str]:
    """How the code and the packages here differ from those that a run was made with, each in words."""
    with plain_messages(store), impatient():
        then = store.client().get_run(run_id).data.tags
    now = system_tags()
    changes = [
        f"{label}: {then.get(key, 'unknown')[:12]} → {now.get(key, 'unknown')[:12]}"
        for key, label in _CODE.items()
        if then.get(key) != now.get(key)
    ]
    if then.get("git_dirty") == now.get("git_dirty") == "true":
        changes.append("uncommitted changes in both, which may be other ones")
    path = _download(store, run_id, _REQUIREMENTS)
    if path is None:
        return [*changes, "its list of packages is gone, so that versions cannot be compared"]
    before, here = _versions(path.read_text(encoding="utf-8")), packages()
    names = sorted({*before, *here}, key=str.lower)
    return changes + [
        f"{name}: {before.get(name, 'missing')} → {here.get(name, 'missing')}"
        for name in names
        if before.get(name) != here.get(name)
    ]


def _versions(requirements: str) -> dict[str, str]:
    pairs = (line.partition("==") for line in requirements.splitlines() if not line.startswith("#"))
    return {name: version for name, _, version in pairs if version}


def _download(store: Store, run_id: str, path: str) -> Path | None:
    with plain_messages(store), impatient():
        return fetch(store, run_id, path)
