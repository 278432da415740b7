"""Whether a repeated run came to the same result: bit for bit, within rounding, or not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from thawlab.tracking.prediction_files import PredictionFile

TOLERANCE = 1e-4  # of a probability: more than sums in another order make, less than another training does


@dataclass(frozen=True)
class Verdict:
    """How two results compare.

    Attributes:
        agrees: "exactly", "closely" or "no".
        sentence: the same in words, with numbers.
    """

    agrees: Literal["exactly", "closely", "no"]
    sentence: str


def verdict(then: PredictionFile, now: PredictionFile) -> Verdict:
    """Compare the predictions of two runs on the same test images."""
    count = len(then.ids)
    if then.classes != now.classes or then.ids != now.ids:
        return Verdict(
            "no", f"differs: {count} test images then and {len(now.ids)} now are not the same, or not their classes"
        )
    if all(then.hashes) and all(now.hashes) and (others := _differing(then.hashes, now.hashes)):
        has = "has" if others == 1 else "have"
        return Verdict("no", f"differs: {others} of the {count} test images {has} other contents now than then")
    before, after = then.probabilities, now.probabilities  # (N, C)
    if before.tobytes() == after.tobytes():
        return Verdict("exactly", f"agrees bit for bit: all probabilities of all {count} test images are equal")
    apart = float(abs(before - after).max())  # NaN where either is, which counts as different below
    changed = _differing(then.predicted, now.predicted)
    if changed == 0 and apart <= TOLERANCE:
        return Verdict(
            "closely",
            f"agrees: all {count} predictions are equal, no probability is further apart than {apart:.1e} (up to "
            f"{TOLERANCE:.0e} counts as rounding)",
        )
    what = f"{changed} of {count} predictions differ" if changed else f"all {count} predictions are equal, but"
    return Verdict("no", f"differs: {what}{',' if changed else ''} probabilities are up to {apart:.1e} apart")


def _differing(then: Iterable[object], now: Iterable[object]) -> int:
    return sum(one != other for one, other in zip(then, now, strict=True))


def table(then: Mapping[str, float], now: Mapping[str, float]) -> list[tuple[str, float | None, float | None]]:
    """Of each metric at the end its value then and now, None where one of them lacks it; those of the result first."""
    groups = ("test/", "best/", "cost/")
    names = sorted({*then, *now})
    return [(name, then.get(name), now.get(name)) for group in groups for name in names if name.startswith(group)]
