"""What runs on few images, in few steps or with a loss that was not finite let a comparison say."""

from collections.abc import Mapping, Sequence

from thawlab.compare.comparison import Grouping
from thawlab.compare.select.recorded_settings import SELECT, epoch_rule
from thawlab.compare.wording.table_columns import factor_label, short_names
from thawlab.config.small_data import FEW_OF_A_CLASS, FEW_STEPS, FEW_VALIDATION
from thawlab.tracking.select_runs import RunRecord

_NAMED = 4  # configurations

History = Sequence[tuple[int, float]]


def notes(grouping: Grouping, histories: Mapping[str, History]) -> list[str]:
    """Sentences, each with the way out.

    Args:
        grouping: of the runs.
        histories: `val/acc` of each run by epoch.
    """
    runs = [run for each in grouping.configurations for run in each.runs]
    found = _diverged(grouping)
    if few := _below(runs, "images.val", FEW_VALIDATION):
        found.append(
            f"{_share(few, runs)} had few validation images (from {_least(few, 'images.val')}), which tell "
            "little of which setting is better; use more, such as by dataset.val_share"
        )
    if few := _below(runs, "steps", FEW_STEPS):
        found.append(
            f"{_share(few, runs)} took few optimizer steps (from {_least(few, 'steps')}), which is little training; "
            "use more epochs or a smaller batch_size"
        )
    if rare := list(dict.fromkeys(run.tags["images.rare"] for run in runs if run.tags.get("images.rare"))):
        found.append(f"fewer than {FEW_OF_A_CLASS} training images: {rare[0]}; add images, or leave such a class out")
    if still := [run for run in runs if never_moved([value for _, value in histories.get(run.run_id, ())])]:
        found.append(
            f"in {_share(still, runs)} val acc was the same in every epoch, and did not tell them apart; use more "
            "validation images"
        )
    return found + _kept_otherwise(runs, histories)


def _kept_otherwise(runs: Sequence[RunRecord], histories: Mapping[str, History]) -> list[str]:
    """What is said where runs of a version without `trainer.select` may have kept another epoch than the others."""
    earlier = [run for run in runs if SELECT not in run.params]
    rules = sorted({str(epoch_rule(run)) for run in runs if SELECT in run.params})
    equals = [run for run in earlier if _has_equals([value for _, value in histories.get(run.run_id, ())])]
    if not rules or not earlier or (rules == ["acc"] and not equals):
        return []
    others = "of equals the one with the lowest loss" if rules == ["acc"] else f"that of {SELECT}={','.join(rules)}"
    return [
        f"{_share(earlier, runs)} are of an earlier version, which kept the first epoch with the highest val acc, and "
        f"the others {others}; train them again to compare like with like"
    ]


def _has_equals(accuracies: Sequence[float]) -> bool:
    return len(accuracies) > 1 and accuracies.count(max(accuracies)) > 1


def never_moved(accuracies: Sequence[float]) -> bool:
    """Whether it was the same in all of several epochs."""
    return len(accuracies) > 1 and len(set(accuracies)) == 1


def _diverged(grouping: Grouping) -> list[str]:
    touched = [each for each in grouping.configurations if each.diverged]
    if not touched:
        return []
    short = short_names(grouping.factors)
    named = [
        f"{factor_label(each, grouping.factors, short) or 'the only configuration'} "
        f"({each.diverged} of {each.diverged + len(each.runs)})"
        for each in touched[:_NAMED]
    ]
    more = f" and {len(touched) - _NAMED} more" if len(touched) > _NAMED else ""
    return [
        f"runs diverged: {', '.join(named)}{more}; the values are those of the runs that did not, which flatters; use "
        "a smaller optimizer.lr"
    ]


def _below(runs: Sequence[RunRecord], tag: str, limit: int) -> list[RunRecord]:
    return [run for run in runs if run.tags.get(tag, "").isdecimal() and int(run.tags[tag]) < limit]


def _least(runs: Sequence[RunRecord], tag: str) -> int:
    return min(int(run.tags[tag]) for run in runs)


def _share(some: Sequence[RunRecord], runs: Sequence[RunRecord]) -> str:
    if len(some) == len(runs):
        return "all runs" if len(runs) > 1 else "the run"
    return f"{len(some)} of {len(runs)} runs"
