"""A sweep's parent run: opened, closed with its jobs as a table, described."""

from collections.abc import Mapping, Sequence
from typing import Any

from thawlab.system.markdown import code, plain
from thawlab.tracking.mlflow_names import TAG_LIMIT, leaving
from thawlab.tracking.run import Run, Status, start_run
from thawlab.tracking.store import Store

_NOTE = "mlflow.note.content"
_RESULT = "\n\n**Result**\n\n"  # no heading: the page shows a few lines of a note, and the rest on demand
_CUT = "\n\n… cut here: a note holds no more"


def start_parent(
    store: Store,
    experiment_name: str,
    name: str,
    tags: Mapping[str, object],
    note: str,
    params: Mapping | None = None,
    resume_id: str | None = None,
) -> Run:
    """Open the run that a sweep's jobs are shown under; creates the store and the experiment before any job needs them.

    Its id is the jobs' `parent_id`. `params` is for what is swept, for instance `{"freeze": "0,2,4"}`. With `resume_id`
    that run is opened once more, and keeps its note.
    """
    note = "" if resume_id else note
    return start_run(store, experiment_name, name=name, params=params or {}, tags=tags, note=note, resume_id=resume_id)


def end_parent(store: Store, parent_id: str, status: Status, rows: Sequence[Mapping[str, Any]]) -> None:
    """Close a sweep's parent run: its jobs as a table, and the best of its jobs.

    Args:
        store: where the sweep is kept.
        parent_id: its parent run.
        status: how it ended.
        rows: a job each: `number`, `label`, `status`, `seconds`, `run_id` and `metrics`.
    """
    experiment_id = store.client().get_run(parent_id).info.experiment_id
    parent = Run(store, parent_id, experiment_id)
    columns = ("best/val_acc", "test/acc")
    table = [
        {**{key: row[key] for key in ("number", "label", "status", "seconds", "run_id")}}
        | {name: row["metrics"].get(name) for name in columns}
        for row in rows
    ]
    try:
        parent.log_dict(table, "sweep/jobs.json")
    except OSError:  # no room for the file: that the sweep is over is said all the same
        parent.set_tags({"error": "the table of its jobs could not be written"})
    finished = [row for row in rows if row["status"] == "FINISHED"]
    summary = {"sweep/jobs": len(rows), "sweep/finished": len(finished)}
    for name in columns:
        values = [row["metrics"][name] for row in finished if name in row["metrics"]]
        if values:
            summary[f"sweep/max_{name.replace('/', '_')}"] = max(values)
    parent.log_metrics(summary)
    set_note(store, parent_id, _result(rows))
    parent.end(status)


def latest_studies(store: Store) -> dict[str, str]:
    """The parent run of the latest sweep of each study that went through, by the study's name (`experiment=NAME`)."""
    client = store.client()
    experiments = [found.experiment_id for found in client.search_experiments()]
    found: dict[str, str] = {}
    token = None
    while True:
        page = client.search_runs(
            experiments,
            "tags.sweep_dir LIKE '%' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        for run in page:
            for override in run.data.tags.get("overrides", "").splitlines():
                key, _, name = override.partition("=")
                if key == "experiment":
                    found.setdefault(name, run.info.run_id)
        token = page.token
        if not token:
            return found


def sweep_note(command: str, jobs: int, swept: Mapping[str, Sequence[str]]) -> str:
    """What a sweep's parent run says of it at the start, in Markdown: the command, and what varies."""
    varied = "; ".join(f"**{plain(key)}** {plain(', '.join(values))}" for key, values in swept.items())
    return f"{code(command)}\n\n{jobs} runs" + (f", which differ in {varied}" if varied else "")


def set_note(store: Store, run_id: str, markdown: str) -> None:
    """Put a result below what a run's note says of it; a result that was put there earlier is replaced.

    MLflow's page shows the note as the run's description. What is too long for a tag is cut, with a word that it is.
    """
    client = store.client()
    start = client.get_run(run_id).data.tags.get(_NOTE, "").partition(_RESULT)[0].rstrip()
    markdown = leaving(markdown)
    room = TAG_LIMIT - len(start) - len(_RESULT) - len(_CUT)
    if len(markdown) > room:  # whole lines, so that a table stays one
        markdown = markdown[:room].rpartition("\n")[0] + _CUT
    client.set_tag(run_id, _NOTE, f"{start}{_RESULT}{markdown}".lstrip())


def _result(rows: Sequence[Mapping[str, Any]]) -> str:
    """All jobs as a table, the best on validation images first, those without a result last."""
    ranked = sorted(rows, key=lambda row: -row["metrics"].get("best/val_acc", -1.0))
    lines = ["| settings | val acc | test acc | status |", "|---|---|---|---|"]
    for row in ranked:
        accuracies = [row["metrics"].get(name) for name in ("best/val_acc", "test/acc")]
        shown = ["–" if value is None else f"{value:.4f}" for value in accuracies]
        lines.append(f"| {plain(str(row['label']))} | {shown[0]} | {shown[1]} | {row['status']} |")
    return "\n".join(lines)
