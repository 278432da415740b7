"""How far the jobs of a sweep are: done before, failed before, begun, or not there; and what is left of each."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawlab.config.job import config_hash
from thawlab.config.schema import Config
from thawlab.launch.run_folder import belongs_to
from thawlab.launch.sweep_inputs import Inputs

if TYPE_CHECKING:
    from thawlab.tracking.run_record import RunRecord

Configs = Sequence[Sequence[Config]]  # of each job: one, or those of the heads that it trains together


@dataclass(frozen=True)
class Rules:
    """Which runs may be gone on with.

    Attributes:
        own: ids of the runs that the sweep has: below its parent run, or taken over by it earlier.
        parent_id: its parent run; None for one that has yet to be opened.
        at_work: parent runs of other sweeps that may be at work, whose interrupted runs are theirs.
        retry: whether runs that failed are tried again.
    """

    own: frozenset[str] = frozenset()
    parent_id: str | None = None
    at_work: frozenset[str] = frozenset()
    retry: bool = False


@dataclass
class Progress:
    """How far the jobs are.

    Attributes:
        plan: of each job, by its number from 1 as text. One with nothing left to do is `done`, or has `failed`; then
            with the `run_id`, `metrics` and `seconds` of its (best) run. Else `again` has the runs to go on with by the
            hash of their configuration, `finished` the hashes of heads that nothing is left of, `failed_heads` how
            many of these failed, and `folder` is that of the run. A job that is still to be done may have a `sister`: a
            run that shares its data set, and if `weights` its backbone, too.
        taken: ids of the runs of other sweeps, or of none, that stand for jobs.
        busy: ids of runs that are at work on jobs at this moment.
        unfit: finished runs that stand for no job, by the reason.
    """

    plan: dict[str, dict[str, Any]] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    unfit: dict[str, list[str]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many jobs are done."""
        return sum(bool(part.get("done")) for part in self.plan.values())

    @property
    def failed(self) -> int:
        """How many jobs have runs that failed and are not tried again."""
        return sum(bool(part.get("failed") or part.get("failed_heads")) for part in self.plan.values())

    @property
    def begun(self) -> int:
        """How many jobs are gone on with."""
        return sum(bool(part.get("again")) for part in self.plan.values())

    @property
    def left(self) -> int:
        """How many jobs have something left to train."""
        return sum("run_id" not in part for part in self.plan.values())

    @property
    def is_empty(self) -> bool:
        """Whether no run stands for any job, or would if nothing had changed since."""
        return not any((self.done, self.failed, self.begun, self.unfit, *map(_has_heads, self.plan.values())))


def _has_heads(part: Mapping[str, Any]) -> bool:
    return bool(part.get("finished"))


def progress(
    configs: Configs, runs: Sequence["RunRecord"], rules: Rules, inputs_of: Callable[[Config], Inputs]
) -> Progress:
    """What is left of each job, given the runs of these settings, the oldest first.

    `inputs_of` is asked of no job that has no run.
    """
    found = Progress()
    pool = _Pool(runs, rules, inputs_of)
    for number, job in enumerate(configs, 1):
        found.plan[str(number)] = _part(job, pool, found)
    for number, sister in _sisters(found.plan, configs):
        found.plan[number]["sister"] = sister
    return found


def outdated(
    configs: Configs, runs: Sequence["RunRecord"], inputs_of: Callable[[Config], Inputs]
) -> tuple["RunRecord", str] | None:
    """A finished run of these jobs that no longer stands for its job, and why; None if there is none."""
    by_hash = {config_hash(config): config for job in configs for config in job}
    for run in runs:
        config = by_hash.get(run.tags.get("config_hash", ""))
        if run.status == "FINISHED" and config is not None and (why := inputs_of(config).difference(run)):
            return run, why
    return None


class _Pool:
    """The runs that are there, each of which stands for one job: the same job may be there twice."""

    def __init__(self, runs: Sequence["RunRecord"], rules: Rules, inputs_of: Callable[[Config], Inputs]) -> None:
        self.rules, self._inputs_of = rules, inputs_of
        self._runs: dict[str, list[RunRecord]] = defaultdict(list)
        self._finished: dict[str, list[RunRecord]] = {}
        self._others: dict[str, list[RunRecord]] = {}
        self.unfit: dict[str, list[tuple[RunRecord, str]]] = defaultdict(list)
        for run in runs:
            self._runs[run.tags.get("config_hash", "")].append(run)

    def finished(self, config: Config) -> "RunRecord | None":
        """Takes a finished run out: one of the sweep's own first, then the latest."""
        self._sort(config)
        found = self._finished[config_hash(config)]
        return found.pop(0) if found else None

    def other(self, config: Config, alone: bool) -> "RunRecord | None":
        """Takes the run out that was begun last: it failed, was interrupted, or is at work.

        Args:
            config: of the job, or of one of its heads.
            alone: whether the job trains nothing but this: one of several heads is not gone on with elsewhere.
        """
        self._sort(config)
        found = self._others[config_hash(config)]
        fitting = [each for each in found if self._is_ours(each) or self._may_be_ours(each, alone)]
        if not fitting:
            return None
        found.remove(fitting[-1])
        return fitting[-1]

    def _sort(self, config: Config) -> None:
        name = config_hash(config)
        if name in self._finished:
            return
        finished: list[RunRecord] = []
        others: list[RunRecord] = []
        for run in self._runs[name]:
            why = self._inputs_of(config).difference(run)
            if why is None:
                (finished if run.status == "FINISHED" else others).append(run)
            elif run.status == "FINISHED":
                self.unfit[name].append((run, why))
        own = [each for each in finished if each.run_id in self.rules.own]
        self._finished[name] = own + [each for each in reversed(finished) if each not in own]
        self._others[name] = others

    def _is_ours(self, run: "RunRecord") -> bool:
        return run.run_id in self.rules.own

    def _may_be_ours(self, run: "RunRecord", alone: bool) -> bool:
        """Whether a run of another sweep counts although it did not finish."""
        parent = run.parent_id
        if parent is None or run.status == "FAILED":
            return parent is not None
        if run.status == "RUNNING" and run.alive is not False:
            return run.alive is True
        return alone and parent not in self.rules.at_work and belongs_to(_folder(run), run.run_id)


def _part(job: Sequence[Config], pool: _Pool, found: Progress) -> dict[str, Any]:
    """What is left of a job."""
    done: dict[str, RunRecord] = {}
    failed: dict[str, RunRecord] = {}
    again: dict[str, RunRecord] = {}
    for config in job:
        if run := pool.finished(config):
            done[config_hash(config)] = run
    for config in job:
        name = config_hash(config)
        if name in done or (run := pool.other(config, len(job) == 1)) is None:
            continue
        if run.status == "FAILED" and not pool.rules.retry:
            failed[name] = run
        elif run.status == "RUNNING" and run.alive:
            found.busy.append(run.run_id)
        elif pool.rules.own >= {run.run_id} or (len(job) == 1 and belongs_to(_folder(run), run.run_id)):
            again[name] = run
    _tell_unfit(job, done, pool, found)
    left_out = [*done.values(), *failed.values()]
    found.taken += [each.run_id for each in left_out if _is_elsewhere(each, pool.rules)]
    if len(left_out) == len(job):
        return {"failed" if failed else "done": True, **_result(left_out)}
    part: dict[str, Any] = {"again": {name: run.run_id for name, run in again.items()}, "finished": [*done, *failed]}
    if failed:
        part["failed_heads"] = len(failed)
    if len(job) == 1 and again:
        (run,) = again.values()
        part["folder"] = run.tags.get("output_dir")
    return part


def _is_elsewhere(run: "RunRecord", rules: Rules) -> bool:
    return rules.parent_id is None or run.parent_id != rules.parent_id


def _tell_unfit(job: Sequence[Config], done: Mapping[str, "RunRecord"], pool: _Pool, found: Progress) -> None:
    for name in dict.fromkeys(map(config_hash, job)):
        if name not in done:
            for run, why in pool.unfit.pop(name, ()):
                found.unfit.setdefault(why, []).append(run.run_id)


def _folder(run: "RunRecord") -> Path:
    return Path(run.tags.get("output_dir", ""))


def _result(runs: Sequence["RunRecord"]) -> dict[str, Any]:
    best = max(runs, key=lambda each: (each.status == "FINISHED", each.metrics.get("best/val_acc", -1.0)))
    return {"run_id": best.run_id, "metrics": dict(best.metrics), "seconds": best.seconds}


def _sisters(plan: Mapping[str, Mapping[str, Any]], configs: Configs) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each job that is not done one that is, with the same data set, if possible with the same backbone, too."""
    done = [(part["run_id"], configs[int(number) - 1][0]) for number, part in plan.items() if part.get("done")]
    for number, part in plan.items():
        mine = configs[int(number) - 1][0]
        alike = [(run_id, one) for run_id, one in done if one.dataset == mine.dataset]
        if "run_id" in part or not alike:
            continue
        loads = mine.backbone.pretrained or mine.backbone.checkpoint_path is not None  # else its seed decides
        both = [run_id for run_id, one in alike if loads and one.backbone == mine.backbone]
        yield number, {"run_id": (both or [alike[0][0]])[0], "weights": bool(both)}
