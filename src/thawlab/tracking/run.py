"""One run in MLflow: started or reopened, written to, ended."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeVar

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from thawlab.tracking.dead_runs import close_dead
from thawlab.tracking.history import find_run, read_text
from thawlab.tracking.mlflow_names import PARAM_LIMIT, TAG_LIMIT, clean_keys, flatten, leaving, shorten
from thawlab.tracking.origin import system_tags
from thawlab.tracking.processes import PROCESS_TAG
from thawlab.tracking.store import Store, experiment, impatient

Status = Literal["FINISHED", "FAILED", "KILLED"]
T = TypeVar("T")

ERROR_FILE = "error/traceback.txt"
_EARLIER = "Before the run was resumed:"
_BATCH = 100  # MLflow's limit for params and tags in one request


class Run:
    """A run, written to through its id: no global MLflow state, so several may be open in one process."""

    def __init__(self, store: Store, run_id: str, experiment_id: str, nonfinite: str = "") -> None:
        self.store = store
        self.id = run_id
        self.experiment_id = experiment_id
        self.client = store.client()
        self.status: Status | None = None  # that it was closed with
        self._metrics: dict[str, str] = {}  # name in MLflow → name as given, to notice two that collide
        self._nonfinite = nonfinite
        self._lock = Lock()

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log all values in one request.

        What is measured by epoch has the epoch as its step. What is measured once keeps step 0: MLflow's page draws it
        as a bar then, and otherwise as a curve of one point.

        NaN and infinities are stored as NaN: an infinity becomes 1.8e308 in MLflow and flattens its chart. The tag
        `nonfinite` tells which metric was what, when it first was.
        """
        self.client.log_batch(self.id, metrics=self.metrics(values, step))
        self.note_nonfinite(values, step)

    def metrics(self, values: Mapping[str, float], step: int) -> list[Metric]:
        """The values as `log_metrics` would send them now."""
        names = self._metric_names(values)
        now = int(time.time() * 1000)
        return [
            Metric(names[key], float(value) if math.isfinite(value) else math.nan, now, step)
            for key, value in values.items()
        ]

    def note_nonfinite(self, values: Mapping[str, float], step: int) -> None:
        """Tell in the tag `nonfinite` which of the values are NaN or infinite, if it does not yet."""
        values = {key: value for key, value in values.items() if not math.isfinite(value)}
        new = [f"{key}={float(values[key])} at step {step}" for key in values if f"{key}=" not in self._nonfinite]
        if new:
            self._nonfinite = "; ".join([*filter(None, [self._nonfinite]), *new])
            self.set_tags({"nonfinite": self._nonfinite})

    def _metric_names(self, values: Mapping[str, float]) -> dict[str, str]:
        names = clean_keys(values)
        with self._lock:
            for key, name in names.items():
                if self._metrics.setdefault(name, key) != key:
                    raise ValueError(f"{key}: MLflow would store this metric as {name}, like {self._metrics[name]}")
        return names

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file, or all that a folder holds, under `folder`."""
        if path.is_dir():
            self.client.log_artifacts(self.id, str(path), folder)
        else:
            self.client.log_artifact(self.id, str(path), folder)

    def log_text(self, text: str, path: str) -> None:
        """Keep a text as the file `path`."""
        self.client.log_text(self.id, leaving(text), path)

    def log_dict(self, content: Any, path: str) -> None:
        """Keep plain dicts and lists as the file `path`, JSON or YAML by its ending."""
        self.client.log_dict(self.id, _leaving(content), path)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set or replace tags; a value over 8,000 characters is cut."""
        names = clean_keys(tags)
        entries = iter([RunTag(names[key], shorten(str(value), TAG_LIMIT)) for key, value in tags.items()])
        for batch in _batches(entries):
            self.client.log_batch(self.id, tags=batch)

    def log_datasets(
        self, sizes: Mapping[str, int], name: str, digest: str, classes: Sequence[str], source: str
    ) -> None:
        """Name the data of each role ("train", "val", "test") as an MLflow dataset input.

        Args:
            sizes: samples by role, which becomes MLflow's context, and part of the dataset's name: MLflow keeps one
                dataset a name and digest.
            name: of the whole data set.
            digest: of its content; MLflow keeps 36 characters.
            classes: their names in the order of the labels.
            source: where it came from, a path or address.
        """
        columns = [{"type": "binary", "name": "image"}, {"type": "string", "name": "label"}]
        inputs = []
        for role, size in sizes.items():
            dataset = Dataset(
                name=f"{leaving(name)}/{role}",
                digest=digest[:36],
                source_type="local",
                source=json.dumps({"uri": leaving(source)}),
                schema=json.dumps({"mlflow_colspec": columns}),
                profile=json.dumps({"num_rows": size, "num_classes": len(classes), "classes": list(classes)}),
            )
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", role)]))
        self.client.log_inputs(self.id, inputs)

    def end(self, status: Status) -> None:
        """Close the run; a server that has gone is given seconds to answer, not minutes."""
        with impatient():
            self.client.set_terminated(self.id, status)
        self.status = status


def start_run(
    store: Store,
    experiment_name: str,
    *,
    name: str,
    params: Mapping[str, object],
    tags: Mapping[str, object],
    parent_id: str | None = None,
    resume_id: str | None = None,
    note: str = "",
) -> Run:
    """Open a run; with `resume_id` reopen that run as RUNNING.

    Runs in the store whose process is gone are closed on the way.

    Args:
        store: where it is kept.
        experiment_name: its experiment, created if missing.
        name: what MLflow's page calls it.
        params: the configuration, nested or flat, logged with dotted names. They cannot change later: a resumed run
            keeps its own, gets those it lacks, and its tag `config_drift` names those that differ now.
        tags: added to those of `system_tags()`.
        parent_id: the run it is shown under.
        resume_id: the run to continue.
        note: a description in Markdown.

    Raises:
        ValueError: if the store cannot be used, or there is no run `resume_id`.
    """
    own = {"mlflow.runName": name, "mlflow.parentRunId": parent_id, "mlflow.note.content": note}
    tags = {**system_tags(), **tags, **{key: value for key, value in own.items() if value}}
    flat = flatten(params)
    names = clean_keys(flat)
    values = {names[key]: shorten(value, PARAM_LIMIT) for key, value in flat.items()}
    if resume_id:
        return _reopen(store, resume_id, values, tags)
    experiment_id = experiment(store, leaving(experiment_name))
    if not parent_id:
        close_dead(store)
    names = clean_keys(tags)
    created = store.client().create_run(
        experiment_id,
        run_name=leaving(name),
        tags={names[key]: shorten(str(value), TAG_LIMIT) for key, value in tags.items()},
    )
    run = Run(store, created.info.run_id, experiment_id)
    _log_params(run, values)
    return run


def _reopen(store: Store, run_id: str, values: Mapping[str, str], tags: Mapping[str, object]) -> Run:
    past = find_run(store, run_id)
    run = Run(store, run_id, past.info.experiment_id, past.data.tags.get("nonfinite", ""))
    # First whose it is now: a run at work that names a process that is gone would be taken for lost.
    run.set_tags({PROCESS_TAG: tags[PROCESS_TAG]})
    run.client.update_run(run_id, status="RUNNING")
    if "error" in past.data.tags:
        _mark_earlier(run, past.data.tags)
    known = past.data.params
    _log_params(run, {key: value for key, value in values.items() if key not in known})
    drift = [
        f"{key}: {known[key]} → {values.get(key, 'gone')}" for key in known if values.get(key, "gone") != known[key]
    ]
    resumed = int(past.data.tags.get("resumed", "0")) + 1
    kept = {key: value for key, value in tags.items() if key not in ("mlflow.runName", "mlflow.user")}  # as they were
    run.set_tags({**kept, "resumed": resumed, **({"config_drift": "; ".join(drift)} if drift else {})})
    return run


def _mark_earlier(run: Run, tags: Mapping[str, str]) -> None:
    """What ended the run before it was resumed is not how it ends."""
    text = read_text(run.store, run.id, ERROR_FILE)
    if text is not None and not text.startswith(_EARLIER):
        run.log_text(f"{_EARLIER}\n\n{text}", ERROR_FILE)
    run.set_tags({"earlier_error": tags["error"]})
    for key in {"error", "diverged"} & tags.keys():
        run.client.delete_tag(run.id, key)


def _log_params(run: Run, values: Mapping[str, str]) -> None:
    for batch in _batches(iter([Param(key, value) for key, value in values.items()])):
        run.client.log_batch(run.id, params=batch)


def _leaving(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _leaving(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_leaving(each) for each in content]
    return leaving(content) if isinstance(content, str) else content


def _batches(items: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(items, _BATCH)):
        yield batch
