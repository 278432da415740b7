"""The runs of one training: one, or one for each of the heads that are trained together, below a parent."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from thawlab.config import head_grid
from thawlab.config.job import Job, config_hash
from thawlab.config.schema import ConfigError
from thawlab.config.small_data import Rule, rule_for
from thawlab.runs import recording
from thawlab.runs.events import RunEvents
from thawlab.runs.member import Member
from thawlab.system.atomic import write_atomically
from thawlab.system.process_rank import process_rank
from thawlab.tracking import artifacts, lifecycle
from thawlab.tracking.run import Run
from thawlab.tracking.store import Store
from thawlab.tracking.sweeps import end_parent, start_parent, sweep_note
from thawlab.training.best_epoch import measure
from thawlab.training.evaluation import compute_test_metrics
from thawlab.training.events import Events
from thawlab.training.outcome import Outcome
from thawlab.training.preparation import Prepared


class Family:
    """The runs of a job, opened, tested and closed; in other processes than the first it shows and records nothing.

    Args:
        job: what is trained.
        prepared: its parts.
        store: where the runs are kept.

    Attributes:
        members: the runs.
        runs: those that were opened in MLflow, a parent included.
        parent: the run in MLflow that those of heads are shown under.
        reports: whether this process shows and records.
        events: is told what happens in training.
        told: what it has heard.
    """

    def __init__(self, job: Job, prepared: Prepared, store: Store) -> None:
        self.job, self.prepared, self.store = job, prepared, store
        self.keys = head_grid.varying(job.variants)
        self.members = [
            Member(
                number,
                head_grid.label(config, self.keys) if job.variants else job.short,
                job,
                [recording.stage_table(prepared, phase, config.optimizer.lr) for phase in prepared.phases],
            )
            for number, config in enumerate(job.variants or [job.config], 1)
        ]
        self.runs: list[Run] = []
        self.parent: Run | None = None
        self.reports = process_rank() == 0
        self.told = RunEvents([member.label for member in self.members])
        self.events: Events = self.told if self.reports else Events()
        self._seconds = 0.0

    def open(self) -> None:
        """Open a run in MLflow for each member, with all that is known before training.

        Raises:
            ConfigError: the store cannot be used, or the images of a resumed run have changed.
        """
        if not self.reports:
            return
        self._open_parent()
        requirements = self.job.output_dir / "requirements.txt"
        artifacts.environment(requirements)
        for member in self.members:
            if self.job.variants:
                member.job = self._job_of_head(member.number)
                member.job.output_dir.mkdir(parents=True, exist_ok=True)
            count = len(self.job.variants)
            member.tracker = recording.open_run(
                member.job, self.prepared, self.store, member.plan, _remark(count) if count else ""
            )
            self.runs.append(member.tracker)
            if count:
                member.tracker.set_tags({"heads": count})
            recording.describe(member.job, self.prepared, member.tracker, member.plan, requirements)
        self.told.send_to([member.tracker for member in self.members if member.tracker])

    def _open_parent(self) -> None:
        """The run that those of heads are shown under, unless their sweep has one."""
        job, rows = self.job, [head_grid.settings(config) for config in self.job.variants]
        if job.sweep or not rows:
            return
        swept = {key: list(dict.fromkeys(str(row[key]) for row in rows)) for key in self.keys}
        folder = job.output_dir
        tags = {"sweep_id": folder.name, "sweep_dir": str(folder.resolve()), "overrides": "\n".join(job.overrides)}
        note = sweep_note(f"python train.py {' '.join(job.overrides)}", len(rows), swept)
        params = {key: ",".join(values) for key, values in swept.items()}
        name = f"{len(rows)} heads {job.short}"[:200]
        try:
            self.parent = start_parent(self.store, job.experiment_name, name, tags, note, params)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self.runs.append(self.parent)

    def _job_of_head(self, number: int) -> Job:
        job, config = self.job, self.job.variants[number - 1]
        sweep: dict[str, Any] = dict(job.sweep)
        if self.parent is not None:
            sweep = {"parent_id": self.parent.id, "sweep_id": job.output_dir.name}
        again: Mapping[str, str] = sweep.get("again", {})  # runs of a sweep that is gone on with
        sweep |= {"jobs": len(job.variants), "varying": [*job.sweep.get("varying", ()), *self.keys], "number": number}
        return replace(
            job,
            config=config,
            output_dir=job.output_dir / "heads" / str(number),
            overrides=head_grid.overrides(job.overrides, config, self.keys),
            sweep=sweep,
            variants=(),
            resume_id=again.get(config_hash(config)),
        )

    def is_trained(self, seconds: float) -> None:
        """All members have been trained, together, in so many seconds."""
        self._seconds = seconds
        self.told.flush()

    @contextmanager
    def isolated(self, member: Member) -> Iterator[None]:
        """What fails for one of several runs fails for no other."""
        if member.tracker is None or len(self.members) == 1:
            yield
            return
        with lifecycle.isolated(member.tracker):
            yield

    def test(self, member: Member, outcome: Outcome) -> None:
        """Test a member at its best, once, on every test image exactly once, and keep what came out."""
        tested = outcome.test()
        member.best, member.audited = outcome.best, outcome.audited
        if member.tracker is not None:
            recording.keep_predictions(self.prepared, member.tracker, tested.logits, member.job.output_dir)
            member.tracker.set_tags({"device": tested.device})
        best = {"best/val_acc": outcome.best.accuracy, "best/epoch": float(outcome.best.epoch)}
        metrics = {**compute_test_metrics(tested.logits, self.prepared.data.test.labels), **best, **tested.cost}
        if member.tracker is not None:
            recording.keep_result(member.job, self.prepared, member.tracker, metrics, outcome.history)
            if self.job.variants:
                (member.job.output_dir / "best.ckpt").unlink(missing_ok=True)  # the store has it
        member.metrics = metrics

    def close(self) -> None:
        """Close what the members have in common, and leave that of the best in the folder of all."""
        if not self.reports or not self.job.variants:
            return
        if self.parent is not None:
            status = "FAILED" if any(member.failed for member in self.members) else "FINISHED"
            end_parent(self.store, self.parent.id, status, [self.row(member) for member in self.members])
        if leading := self.leading():  # what a sweep over such jobs shows of this one
            for name in ("run_id", "result.json"):
                write_atomically(self.job.output_dir / name, (leading[0].job.output_dir / name).read_bytes())

    @property
    def rule(self) -> Rule:
        """What chose the epochs, and chooses between the members."""
        return rule_for(self.job.config.trainer.select, len(self.prepared.data.val))

    def leading(self) -> list[Member]:
        """Those that did best on the validation images."""
        done = [(measure(self.rule, member.best), member) for member in self.members if member.best is not None]
        done = [(value, member) for value, member in done if not member.failed]
        best = max((value for value, _ in done), default=None)
        return [member for value, member in done if value == best]

    def row(self, member: Member) -> dict[str, Any]:
        """The member in a table of all."""
        what = {"number": member.number, "label": member.label, "status": member.status, "seconds": self._seconds}
        return {**what, "metrics": member.metrics, "run_id": member.id}


def _remark(heads: int) -> str:
    return (
        f"one of {heads} heads that were trained together: `cost/fit_seconds`, `cost/cache_seconds` and "
        "`cost/images_per_second` are those of all of them at once"
    )
