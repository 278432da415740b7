"""Numbers of a comparison as people read them: `91.2 %`, `+1.3`, `< 0.001`, and an en dash for what is not known."""

import math
import re

UNKNOWN = "–"
MINUS = "−"

_COSTS = {
    "cost/trainable_params": "trained parameters",
    "cost/total_params": "parameters",
    "cost/seconds": "time (s)",
    "cost/fit_seconds": "training time (s)",
    "cost/peak_memory_mb": "peak memory (MB)",
    "cost/images_per_second": "images per second",
}


def amount(value: float | None, percent: bool) -> str:
    """A metric's value; a share in percent with one decimal."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{_signed(100 * value, 1)} %" if percent else plain(value)


def spread(value: float | None, percent: bool) -> str:
    """A standard deviation, in points where the metric is in percent."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"± {100 * value:.1f}" if percent else f"± {plain(value)}"


def interval(low: float, high: float, percent: bool) -> str:
    """Both ends, without the unit that stands before them."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNKNOWN
    return f"[{_bare(low, percent)}, {_bare(high, percent)}]"


def difference(value: float, percent: bool) -> str:
    """A signed difference, in points where the metric is in percent."""
    if not math.isfinite(value):
        return UNKNOWN
    text = _bare(value, percent)
    return text if text.startswith(MINUS) or not text.strip("0.,") else f"+{text}"


def p_value(p: float) -> str:
    """Three decimals; `< 0.001` below, and more where it would round up to the level it stays below."""
    if not math.isfinite(p):
        return UNKNOWN
    if 0.0495 <= p < 0.05:
        return f"{math.floor(p * 1e4) / 1e4:.4f}"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def effect(value: float, measure: str) -> str:
    """An effect size: signed, two decimals, and what it is."""
    return f"{measure} = {value:+.2f}".replace("-", MINUS) if math.isfinite(value) else UNKNOWN


def plain(value: float) -> str:
    """Four significant figures or so, the same number of decimals for values of the same size."""
    if not math.isfinite(value):
        return UNKNOWN
    size = abs(value)
    if 0 < size < 0.001:
        return f"{value:.1e}".replace("-", MINUS)
    return _signed(value, 4 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0)


def count(value: float) -> str:
    """A number of parameters: `5,130`, `11.2 M`."""
    if not math.isfinite(value):
        return UNKNOWN
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):.1f} {unit}"
    return f"{value:,.0f}"


def cost(name: str, value: float) -> str:
    """A `cost/…` metric's value: three figures say all that another run would say again."""
    if name.endswith("_params"):
        return count(value)
    if not 0.001 <= value < math.inf:
        return plain(value)
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def metric_words(name: str) -> str:
    """What a metric is called beside its values; a name that is not known stays as it is."""
    return _COSTS.get(name, name.removeprefix("cost/").replace("_", " "))


def broken(text: str, width: int) -> list[str]:
    """A label in lines of at most so many characters, broken between the words it is made of where that is possible."""
    lines = [""]
    for word in re.findall(r".+?(?:[ _/,-]+|$)", text):
        for piece in (word[at : at + width] for at in range(0, len(word), width)):
            if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


def _bare(value: float, percent: bool) -> str:
    return _signed(100 * value, 1) if percent else plain(value)


def _signed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    if not text.strip("-0.,"):  # rounded to nothing: neither plus nor minus
        return text.lstrip("-")
    return text.replace("-", MINUS)
