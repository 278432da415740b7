"""All files of a comparison, written so that nothing half-done is left behind."""

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from thawlab.compare.comparison import Comparison
from thawlab.compare.plots.matplotlib_charts import write_pictures
from thawlab.compare.report.html import write_report
from thawlab.compare.report.tables import write_tables
from thawlab.compare.wording.table_columns import row_label
from thawlab.console import left_out_if_it_fails


def write_all(comparison: Comparison, folder: Path) -> list[Path]:
    """Write report, tables, plots and `comparison.json` into a folder, in the place of an earlier comparison's.

    All is written beside the folder first, the numbers before what may fail for the sake of a picture: that is left
    out then. Other files that lie in the folder stay.

    Returns:
        The files, the report first if it could be made.
    """
    folder = folder.absolute()
    half_done = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}")
    try:
        half_done.mkdir(parents=True)
        tables = write_tables(comparison, half_done)
        numbers = half_done / "comparison.json"
        text = json.dumps(as_plain(comparison), ensure_ascii=False, allow_nan=False)
        numbers.write_text(text + "\n", encoding="utf-8")
        pictures, report = [], []
        with left_out_if_it_fails("the folder of pictures"):
            pictures = write_pictures(comparison, half_done / "plots")
        with left_out_if_it_fails("the report"):
            report = [write_report(comparison, half_done)]
        written = [path.relative_to(half_done) for path in (*report, *tables, numbers, *pictures)]
        _move(half_done, folder)
    finally:
        shutil.rmtree(half_done, ignore_errors=True)
    return [folder / path for path in written]


def as_plain(comparison: Comparison) -> dict[str, Any]:
    """All numbers, as JSON can hold them: what is not known is None."""
    plain = _plain(comparison)
    for place, (row, found) in enumerate(zip(comparison.rows, plain["rows"], strict=True)):
        found["configuration"]["label"] = row_label(comparison, place)
        found["run_ids"] = [run.run_id for run in row.configuration.runs]
    del plain["grouping"]["configurations"]  # they stand in the rows
    return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):  # not `asdict`: it copies what it holds, which not every mapping allows
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _move(source: Path, folder: Path) -> None:
    if not folder.exists():
        source.rename(folder)
        return
    for path in source.iterdir():
        target = folder / path.name
        if target.is_dir():  # plots that an earlier comparison had and this one has not
            shutil.rmtree(target)
        path.replace(target)
