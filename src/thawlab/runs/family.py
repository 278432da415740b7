"""What heads that are trained together say of themselves: in the terminal, and in MLflow as a family of runs."""

import statistics
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from typing import Any

from torch import Tensor

from thawlab import console
from thawlab.config import head_grid
from thawlab.config.job import Job, config_hash
from thawlab.config.schema import ConfigError
from thawlab.runs import recording
from thawlab.system.atomic import write_atomically
from thawlab.tracking import artifacts
from thawlab.tracking.lifecycle import failure_tags
from thawlab.tracking.run import Run
from thawlab.tracking.store import Store
from thawlab.tracking.sweeps import end_parent, start_parent, sweep_note
from thawlab.training.preparation import Prepared

Plans = Sequence[recording.Plan]  # of each head


@dataclass(eq=False)
class Child:
    """One of the heads as a run.

    Attributes:
        number: from 1.
        label: its settings, as far as the heads differ in them.
        job: what would train it alone.
        run: its run in MLflow.
        status: how that ended.
        metrics: at the end.
        seconds: that the heads took together.
        diverged: the first epoch in which its training loss was not finite.
    """

    number: int
    label: str
    job: Job
    run: Run
    status: str = "RUNNING"
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    diverged: int | None = None


def show_start(job: Job, prepared: Prepared, plans: Plans) -> None:
    """Say what is about to be trained on what."""
    sizes = [
        f"{key} ({len({head_grid.settings(each)[key] for each in job.variants})})"
        for key in head_grid.varying(job.variants)
    ]
    facts = {**recording.facts(job, prepared), "heads": f"{len(job.variants)} at once: {' × '.join(sizes) or 'one'}"}
    console.show_start(job.short, facts, prepared.notes)
    shown: dict[str, Any] = {**plans[0][0]}
    rates = [stage["lr"] for plan in plans for stage in plan[0]["stages"] if not stage["frozen"]]
    shown["stages"] = [
        stage if stage["frozen"] else {**stage, "lr": sorted(set(rates))} for stage in plans[0][0]["stages"]
    ]
    console.show_stages(shown)


def open_parent(job: Job, store: Store) -> Run | None:
    """The run that those of the heads are shown under; None in a sweep, which has one.

    Raises:
        ConfigError: the store cannot be used.
    """
    if job.sweep:
        return None
    rows = [head_grid.settings(config) for config in job.variants]
    swept = {key: list(dict.fromkeys(str(row[key]) for row in rows)) for key in head_grid.varying(job.variants)}
    folder = job.output_dir
    tags = {"sweep_id": folder.name, "sweep_dir": str(folder.resolve()), "overrides": "\n".join(job.overrides)}
    note = sweep_note(f"python train.py {' '.join(job.overrides)}", len(rows), swept)
    params = {key: ",".join(values) for key, values in swept.items()}
    try:
        return start_parent(store, job.experiment_name, f"{len(rows)} heads {job.short}"[:200], tags, note, params)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def open_children(job: Job, prepared: Prepared, store: Store, plans: Plans, parent: Run | None) -> list[Child]:
    """Open a run for each head, with all that is known before training."""
    keys = head_grid.varying(job.variants)
    sweep = {"parent_id": parent.id, "sweep_id": job.output_dir.name} if parent else dict(job.sweep)
    sweep |= {"jobs": len(job.variants), "varying": [*job.sweep.get("varying", ()), *keys]}
    remark = (
        f"one of {len(job.variants)} heads that were trained together: `cost/fit_seconds`, `cost/cache_seconds` and "
        "`cost/images_per_second` are those of all of them at once"
    )
    again: Any = sweep.get("again", {})  # runs of a sweep that is gone on with
    children = []
    requirements = job.output_dir / "requirements.txt"
    artifacts.environment(requirements)
    for number, (config, plan) in enumerate(zip(job.variants, plans, strict=True), 1):
        own = replace(
            job,
            config=config,
            output_dir=job.output_dir / "heads" / str(number),
            overrides=head_grid.overrides(job.overrides, config, keys),
            sweep={**sweep, "number": number},
            variants=(),
            resume_id=again.get(config_hash(config)),
        )
        own.output_dir.mkdir(parents=True, exist_ok=True)
        child = Child(
            number, head_grid.label(config, keys), own, recording.open_run(own, prepared, store, plan, remark)
        )
        children.append(child)
        with closing(children):
            child.run.set_tags({"heads": len(job.variants)})
            recording.describe(own, prepared, child.run, plan, requirements)
    return children


@contextmanager
def closing(children: Sequence[Child]) -> Iterator[None]:
    """End the runs that are open if what is done for all of them fails or is stopped."""
    try:
        yield
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        for child in children:
            if child.status == "RUNNING":
                _end(child, status, error)
        raise


@contextmanager
def isolated(child: Child) -> Iterator[None]:
    """What fails for one head fails for no other; its run says why."""
    try:
        yield
    except Exception as error:
        _end(child, "FAILED", error)
    else:
        child.run.end("FINISHED")
        child.status = "FINISHED"


def _end(child: Child, status: Any, error: BaseException) -> None:
    child.status = status
    if isinstance(error, Exception):
        text = "".join(traceback.format_exception(error))
        child.run.log_text(text, "error/traceback.txt")
        child.run.set_tags(failure_tags(error))
    child.run.end(status)


def rows(metrics: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """The metrics of an epoch, (H,) each, as one row a head."""
    columns = {name: values.tolist() for name, values in metrics.items()}
    return [{**dict(zip(columns, row, strict=True)), "phase": 1.0} for row in zip(*columns.values(), strict=True)]


def histories(epochs: Sequence[Mapping[str, Tensor]]) -> list[list[dict[str, float]]]:
    """The metrics of all epochs by head, as MLflow would give them back: what is not finite is NaN."""
    by_epoch = [rows({name: values.nan_to_num(nan, nan, nan) for name, values in each.items()}) for each in epochs]
    return [[{"epoch": epoch, **row} for epoch, row in enumerate(of_head)] for of_head in zip(*by_epoch, strict=True)]


def show_epoch(
    epoch: int, epochs: int, rows: Sequence[Mapping[str, float]], children: Sequence[Child], seconds: float
) -> None:
    """One line for all heads; remembers which have diverged."""
    for child, row in zip(children, rows, strict=True):
        if child.diverged is None and not (isfinite(row["train/loss"]) and isfinite(row["val/loss"])):
            child.diverged = epoch
    accuracies = [row["val/acc"] for row in rows]
    losses = [row["train/loss"] for row in rows if isfinite(row["train/loss"])]
    best = max(accuracies)
    metrics = {"best": best, "median": statistics.median(accuracies), "seconds": seconds}
    metrics |= {"train/loss": statistics.median(losses) if losses else nan}
    metrics |= {"diverged": sum(child.diverged is not None for child in children)}
    tied = accuracies.count(best) - 1
    label = children[accuracies.index(best)].label.replace("optimizer.", "") + (f" and {tied} more" if tied else "")
    console.show_heads_epoch(epoch, epochs, metrics, label)


def close(job: Job, store: Store, parent: Run | None, children: Sequence[Child]) -> int:
    """Show the table of all heads, and close what they have in common; returns how many failed."""
    done = [child for child in children if child.status == "FINISHED"]
    best = max(done, key=lambda child: (child.metrics["best/val_acc"], -child.number), default=None)
    table = [_row(child) for child in children]
    keys = head_grid.varying(job.variants) or head_grid.KEYS
    settings = [{key: head_grid.settings(child.job.config)[key] for key in keys} for child in children]
    shown = [
        {**row, "settings": own, "diverged": child.diverged is not None}
        for child, row, own in zip(children, table, settings, strict=True)
    ]
    leading = [child.number for child in done if best and child.metrics["best/val_acc"] == best.metrics["best/val_acc"]]
    console.show_heads(shown, leading)
    if len(leading) > 1:
        console.show_note(f"{len(leading)} heads are tied: the highest val acc, which they share, tells none apart")
    for child in children:
        if child.diverged is not None:
            told = f"run {child.number} ({child.label}): its loss is not finite from epoch {child.diverged + 1} on"
            console.show_note(told)
    failed = len(children) - len(done)
    if parent is not None:
        end_parent(store, parent.id, "FAILED" if failed else "FINISHED", table)
        console.terminal.print(
            f"parent run {parent.id}   which is best, and how sure: thawlab compare sweep={parent.id}"
        )
        console.terminal.print(f"look at it: {store.ui_command}", markup=False)
    if best is not None:  # what a sweep over such jobs shows of this one
        for name in ("run_id", "stages.json", "result.json"):
            write_atomically(job.output_dir / name, (best.job.output_dir / name).read_bytes())
    return failed


def _row(child: Child) -> dict[str, Any]:
    keys = ("number", "label", "status", "seconds", "metrics")
    return {**{key: getattr(child, key) for key in keys}, "run_id": child.run.id}
