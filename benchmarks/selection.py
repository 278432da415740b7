"""Which epoch to keep and how many steps to take on few images: tables from the trainings of selection_trainings.py.

python benchmarks/selection.py TRAININGS.jsonl.gz …    sums up, and keeps results/selection/few_images.json
python benchmarks/selection.py                         prints the tables of docs/selection.md from that file
"""

import gzip
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

KEPT = Path(__file__).parent / "results" / "selection" / "few_images.json"


class Epoch(NamedTuple):
    """What validation said of an epoch."""

    acc: float
    loss: float
    balanced: float
    number: int


# What epochs are ordered by, the best one highest.
RULES: dict[str, Callable[[Epoch], tuple[float, ...]]] = {
    "first best acc": lambda epoch: (epoch.acc, -epoch.number),
    "acc": lambda epoch: (epoch.acc, -epoch.loss, epoch.number),
    "balanced_acc": lambda epoch: (epoch.balanced, -epoch.loss, epoch.number),
    "loss": lambda epoch: (-epoch.loss, epoch.acc, epoch.number),
    "last": lambda epoch: (epoch.number,),
}
_SIZES = ((1, 24), (25, 49), (50, 150), (151, 300))  # validation images, from to


def summed_up(files: Iterable[Path]) -> dict[str, Any]:
    """For each training and number of validation images the mean test accuracy by rule, and that of the best epoch."""
    rows = []
    for path in files:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                rows += _rows(json.loads(line))
    return {"rows": rows}


def _rows(training: dict[str, Any]) -> Iterable[dict[str, Any]]:
    told = ("data", "classes", "images", "train", "freeze", "min_steps", "steps")
    for size in training["seeds"][0]["val"]:
        seeds = [(each["test"], each["val"][size]) for each in training["seeds"]]
        found: dict[str, list[float]] = {name: [] for name in (*RULES, "best")}
        for test, (_, *columns) in seeds:
            epochs = [Epoch(*values, number) for number, values in enumerate(zip(*columns, strict=True))]
            for name, rule in RULES.items():
                found[name].append(test[max(epochs, key=rule).number])
            found["best"].append(max(test))
        means = {name: round(statistics.fmean(values), 4) for name, values in found.items()}
        yield {**{name: training[name] for name in told}, "seeds": len(seeds), "val": seeds[0][1][0], "test": means}


def tables(kept: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    rows = kept["rows"]
    own = [row for row in rows if row["val"] == min(each["val"] for each in rows if _same(each, row))]
    rules = (*RULES, "best")
    by_size = [
        [f"{low}–{high}", [row for row in rows if low <= row["val"] <= high and row["min_steps"] == steps], str(steps)]
        for low, high in _SIZES
        for steps in (0, 200)
    ]
    first = [(name, steps, *_means(part, rules)) for name, part, steps in by_size if part]
    keys = sorted({(row["data"], row["classes"], row["images"]) for row in own})
    second = []
    for data, classes, images in keys:
        part = [row for row in own if (row["data"], row["classes"], row["images"]) == (data, classes, images)]
        steps = sorted({row["min_steps"] for row in rows})
        cells = [_means([row for row in part if row["min_steps"] == each], ("last",)) for each in steps]
        second.append((data, str(classes), str(images), *(cell[0] if cell else "–" for cell in cells)))
    depths = [
        (
            f"freeze={depth}",
            str(steps),
            *_means([r for r in own if (r["freeze"], r["min_steps"]) == (depth, steps)], rules),
        )
        for depth in ("0", "4", "all")
        for steps in (0, 100, 200, 400)
    ]
    return "\n\n".join(
        [
            _table(("validation images", "min_steps", *rules), first),
            _table(
                ("data", "classes", "images a class", *(f"≥ {each} steps" for each in (0, 50, 100, 200, 400))), second
            ),
            _table(("depth", "min_steps", *rules), depths),
        ]
    )


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("data", "classes", "images", "freeze", "min_steps"))


def _means(rows: list[dict[str, Any]], rules: Iterable[str]) -> list[str]:
    """Mean over the rows, each of which counts as its seeds; in percent."""
    weight = sum(row["seeds"] for row in rows)
    return [f"{100 * sum(r['test'][name] * r['seeds'] for r in rows) / weight:.1f}" for name in rules] if rows else []


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(columns)
    lines = [head, ["---:"] * len(head), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    if sys.argv[1:]:
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        result = summed_up(map(Path, sys.argv[1:]))
        lines = ",\n".join(json.dumps(row) for row in result["rows"])
        KEPT.write_text(f'{{"rows": [\n{lines}\n]}}\n', encoding="utf-8")
    print(tables(json.loads(KEPT.read_text(encoding="utf-8"))))
