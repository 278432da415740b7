"""The answer in words: which configuration is best, by how much, how sure, and at what cost."""

from collections.abc import Sequence

from thawlab.compare.comparison import Comparison, Difference
from thawlab.compare.stats.holm import ALPHA
from thawlab.compare.wording import formats
from thawlab.compare.wording.reference_row import best, difference_from, ties
from thawlab.compare.wording.table_columns import row_label

_NAMED = 4  # configurations that a sentence names before it only counts
# Beginnings of the settings of what is taken over and what is learned anew.
_TRANSFER = ("strategy", "transfer", "freeze", "bn", "weights", "backbone.pretrained")
_COSTS = (("cost/trainable_params", "trains the fewest parameters"), ("cost/seconds", "takes the least time"))


def conclude(comparison: Comparison) -> tuple[str, ...]:
    """Sentences in the order in which a reader wants them."""
    place = best(comparison)
    if place is None:
        return ("There is nothing to compare: no run that could be used.",)
    sentences = [_best(comparison, place)]
    if comparison.baseline is not None:
        sentences.append(_baseline(comparison, comparison.baseline))
    sentences += _transfer(comparison, place)
    sentences += _cheapest(comparison, place)
    return tuple(sentences)


def _best(comparison: Comparison, place: int) -> str:
    row, name = comparison.rows[place], _name(comparison, place)
    amount = f"{_amount(comparison, row.estimate.mean)} {_interval(comparison, place)}".strip()
    if len(comparison.rows) == 1:
        return f"There is one configuration, {name}: {comparison.metric} {amount}; a comparison needs another one."
    tied = ties(comparison)
    others = [other for other in range(len(comparison.rows)) if other not in tied]
    alike = [other for other in others if not comparison.rows[other].distinguishable]
    worse = [other for other in others if comparison.rows[other].distinguishable]
    them = "it" if len(tied) == 1 else "them"
    if len(tied) > 1:
        parts = [
            f"{_tied(comparison, tied)} are tied: {comparison.metric} {_amount(comparison, row.estimate.mean)} each"
        ]
    elif not worse:
        parts = [f"There is no clear best: {name} leads with {comparison.metric} {amount}"]
    else:
        parts = [f"{name} {'leads with' if alike else 'is best,'} {comparison.metric} {amount}"]
    if alike and not worse:
        parts.append(f"but no other configuration can be told apart from {them}")
    elif alike:
        parts.append(f"{_listed(comparison, alike)} cannot be told apart from {them}")
    if worse:
        parts.append(_worse(comparison, place, worse))
    return "; ".join(parts) + "."


def _tied(comparison: Comparison, places: Sequence[int]) -> str:
    if len(places) == len(comparison.rows) > _NAMED:
        return f"All {len(places)} configurations"
    return _and([_name(comparison, place) for place in places])


def _worse(comparison: Comparison, place: int, worse: Sequence[int]) -> str:
    found = [(other, difference) for other in worse if (difference := difference_from(comparison, other, place))]
    if len(found) <= _NAMED:
        each = [
            f"{_name(comparison, other)} is worse by {_size(comparison, difference)}, {_p(difference)}"
            for other, difference in found
        ]
        return "; ".join(each)
    sizes = sorted((abs(difference.value), difference) for _, difference in found)
    largest = max((difference.p_holm for _, difference in found))
    smallest, last = (_size(comparison, difference) for _, difference in (sizes[0], sizes[-1]))
    return (
        f"the other {len(found)} are worse, by {smallest.removesuffix(' points')} to {last}, "
        f"p ≤ {formats.p_value(max(largest, 0.001)).removeprefix('< ')}"
    )


def _baseline(comparison: Comparison, baseline: int) -> str:
    better, worse, alike = [], [], []
    for place in range(len(comparison.rows)):
        difference = difference_from(comparison, place, baseline)
        if place == baseline or difference is None:
            continue
        told = difference.p_holm < ALPHA
        gains = (difference.value > 0) is comparison.higher_is_better
        (alike if not told else better if gains else worse).append(place)
    parts = [
        f"{_listed(comparison, places)} {'is' if len(places) == 1 else 'are'} {word}"
        for places, word in ((better, "better"), (worse, "worse"), (alike, "not to be told from it"))
        if places
    ]
    return f"Against the baseline {_name(comparison, baseline)}: {'; '.join(parts) or 'nothing else is there'}."


def _transfer(comparison: Comparison, place: int) -> list[str]:
    """What the pretrained weights bring, if runs without them are there."""
    rows = range(len(comparison.rows))
    scratch = next(
        (other for other in rows if _is_scratch(comparison, other) and _alike(comparison, place, other)), None
    )
    if scratch is None or scratch == place or _is_scratch(comparison, place):
        return []
    difference = difference_from(comparison, place, scratch)
    if difference is None:
        return []
    interval = formats.interval(difference.low, difference.high, comparison.percent)
    return [
        f"Transfer gain over training from scratch ({_name(comparison, scratch)}): "
        f"{formats.difference(difference.value, comparison.percent)}{_unit(comparison)} {interval}, {_p(difference)}"
        f"{' (Holm)' if len(comparison.pairs) > 1 else ''}."
    ]


def _is_scratch(comparison: Comparison, place: int) -> bool:
    runs = comparison.rows[place].configuration.runs
    return all(
        run.params.get("strategy.name") == "scratch"
        or run.params.get("transfer_depth") in ("none", "None")
        or run.params.get("weights") == "none"
        for run in runs
    )


def _alike(comparison: Comparison, one: int, other: int) -> bool:
    """Whether two configurations differ in nothing but what is transferred and how: same network, same images."""
    factors = [comparison.rows[place].configuration.factors for place in (one, other)]
    names = [name for name in {**factors[0], **factors[1]} if not name.startswith(_TRANSFER)]
    pooled = [name for name in comparison.grouping.pooled if not name.startswith(_TRANSFER)]
    return not pooled and all(factors[0].get(name) == factors[1].get(name) for name in names)


def _cheapest(comparison: Comparison, place: int) -> list[str]:
    """Which of those that may be best costs least."""
    alike = [other for other, row in enumerate(comparison.rows) if not row.distinguishable]
    if comparison.metric.startswith("cost/") or len(alike) < 2:
        return []
    found: dict[int, list[str]] = {}
    for cost, words in _COSTS:
        known = [other for other in alike if cost in comparison.rows[other].costs]
        if len(known) < 2 or place not in known:
            continue
        cheapest = min(known, key=lambda other: comparison.rows[other].costs[cost])
        least, usual = (comparison.rows[other].costs[cost] for other in (cheapest, place))
        if cheapest != place and least < 0.95 * usual:
            amounts = [_cost(cost, value) for value in (least, usual)]
            found.setdefault(cheapest, []).append(f"{words} ({amounts[0]} against {amounts[1]})")
    parts = [f"{_name(comparison, other)} {' and '.join(words)}" for other, words in found.items()]
    return [f"Of those that may be best, {', '.join(parts)}."] if parts else []


def _cost(name: str, value: float) -> str:
    if name != "cost/seconds":
        return formats.cost(name, value)
    return f"{value:,.0f} s" if value >= 10 else f"{value:.2g} s"


def _name(comparison: Comparison, place: int) -> str:
    return row_label(comparison, place)


def _listed(comparison: Comparison, places: Sequence[int]) -> str:
    if len(places) > _NAMED:
        return f"{len(places)} other configurations" if len(places) < len(comparison.rows) - 1 else "all others"
    return _and([_name(comparison, place) for place in places])


def _and(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        names = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _amount(comparison: Comparison, value: float) -> str:
    return formats.amount(value, comparison.percent)


def _interval(comparison: Comparison, place: int) -> str:
    estimate = comparison.rows[place].estimate
    shown = formats.interval(estimate.low, estimate.high, comparison.percent)
    return "" if shown == formats.UNKNOWN else shown


def _size(comparison: Comparison, difference: Difference) -> str:
    shown = formats.difference(abs(difference.value), comparison.percent).removeprefix("+")
    return f"{shown}{_unit(comparison)}"


def _unit(comparison: Comparison) -> str:
    return " points" if comparison.percent else ""


def _p(difference: Difference) -> str:
    shown = formats.p_value(difference.p_holm)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"
