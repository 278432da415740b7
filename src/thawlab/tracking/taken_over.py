"""Runs that a sweep compares with its own although they were done before it, below another sweep or alone.

A run is shown under one parent in MLflow, and stays there; the sweep that takes it over names it in tags.
"""

import re
from collections.abc import Mapping, Sequence

_TAG = "sweep_taken_over"
_IDS = 200  # of 32 digits, in a tag


def taken_over(tags: Mapping[str, str]) -> list[str]:
    """The ids of the runs that a sweep took over, by the tags of its parent run."""
    names = [name for name in tags if re.fullmatch(rf"{_TAG}(\.\d+)?", name)]
    return [run_id for name in sorted(names, key=_number) for run_id in tags[name].split()]


def naming(run_ids: Sequence[str], earlier: Mapping[str, str]) -> dict[str, str]:
    """The tags that name these runs, in the place of those among the earlier ones; none where there is none to name."""
    ids = list(dict.fromkeys(run_ids))
    parts = [" ".join(ids[start : start + _IDS]) for start in range(0, len(ids), _IDS)]
    emptied = {name: "" for name in earlier if re.fullmatch(rf"{_TAG}(\.\d+)?", name)}
    return emptied | {f"{_TAG}.{number}" if number > 1 else _TAG: part for number, part in enumerate(parts, 1)}


def _number(name: str) -> int:
    return int(name.partition(".")[2] or 1)
