"""What the runs of a training say in the terminal: before it, and of what came out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thawlab import console
from thawlab.compare.stats.share_interval import LEVEL, accuracy_interval
from thawlab.config import head_grid
from thawlab.runs import recording
from thawlab.runs.family import Family
from thawlab.runs.member import Member
from thawlab.tracking.history import epoch_history

_MEASURED = {"acc": "val acc", "balanced_acc": "val balanced acc", "loss": "val loss", "last": "val loss"}


def show_start(family: Family) -> None:
    """Say what is about to be trained on what."""
    if not family.reports:
        return
    job, prepared = family.job, family.prepared
    facts = recording.facts(job, prepared)
    if job.variants:
        rows = [head_grid.settings(config) for config in job.variants]
        sizes = [f"{key} ({len({row[key] for row in rows})})" for key in family.keys]
        # Said, since a probe of one head is solved for unless one asks for something else.
        facts["heads"] = f"{len(rows)} at once, by steps (solver=gradient): {' × '.join(sizes) or 'one'}"
    console.show_start(job.short, facts, prepared.notes)
    for phases in zip(*(member.plan for member in family.members), strict=True):
        console.show_stages({**phases[0], "stages": _with_all_rates([phase["stages"] for phase in phases])})


def _with_all_rates(plans: Sequence[Sequence[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """The stages of a phase, with the learning rates of all members."""
    rates = {
        place: sorted({stages[place]["lr"] for stages in plans if stages[place]["lr"] is not None})
        for place in range(len(plans[0]))
    }
    return [{**stage, "lr": rates[place] or None} for place, stage in enumerate(plans[0])]


def show_end(family: Family) -> None:
    """Say what came out."""
    if not family.reports:
        return
    if family.job.variants:
        _show_heads(family)
    else:
        _show_result(family, family.members[0])


def _show_result(family: Family, member: Member) -> None:
    """The numbers of one run, how sure they are, and where it lies."""
    metrics, images = member.metrics, len(family.prepared.data.test)
    folder = member.job.output_dir.resolve()
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    audit = f"{member.audited} frozen tensors unchanged, bit for bit" if member.audited else "nothing was frozen"
    low, high = accuracy_interval(metrics["test/acc"], images)
    interval = f"acc {low:.4f} to {high:.4f} at {100 * LEVEL:g} %, from {images:,} images; other seeds not counted"
    console.show_result(metrics, interval, audit, member.id, family.store.ui_command, str(shown))
    accuracies = [row["val/acc"] for row in epoch_history(family.store, member.id) if "val/acc" in row]
    if len(accuracies) > 1 and len(set(accuracies)) == 1:
        console.show_note(
            f"val acc was {accuracies[0]:.4f} in all {len(accuracies)} epochs, and did not tell them apart; use more "
            "validation images"
        )


def _show_heads(family: Family) -> None:
    """The table of all heads, and what it does not show."""
    audited = max(member.audited for member in family.members)
    console.terminal.print(f"{len(family.members)} heads trained; {audited} frozen tensors unchanged, bit for bit")
    leading = family.leading()
    console.show_heads([_row(family, member) for member in family.members], [each.number for each in leading])
    if len(leading) > 1:
        told = f"{len(leading)} heads are tied: the best {_MEASURED[family.rule]}, which they share, tells none apart"
        console.show_note(told)
    for member, epoch in zip(family.members, family.told.diverged, strict=True):
        if epoch is not None:
            told = f"run {member.number} ({member.label}): its loss is not finite from epoch {epoch + 1} on"
            console.show_note(told)
    if family.parent is not None:
        console.terminal.print(
            f"parent run {family.parent.id}   which is best, and how sure: thawlab compare sweep={family.parent.id}"
        )
        console.terminal.print(f"look at it: {family.store.ui_command}", markup=False)


def _row(family: Family, member: Member) -> dict[str, Any]:
    settings = head_grid.settings(member.job.config)
    own = {key: settings[key] for key in family.keys or head_grid.KEYS}
    diverged = family.told.diverged[member.number - 1] is not None
    return {**family.row(member), "settings": own, "diverged": diverged}
