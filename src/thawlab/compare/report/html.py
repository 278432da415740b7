"""A comparison as a page: one file that needs nothing else, on a screen, on a phone and on paper."""

import base64
import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import jinja2
import numpy as np
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from thawlab.compare.comparison import Comparison, Disagreement
from thawlab.compare.plots import chart_data
from thawlab.compare.plots.chart_list import Chart, charts
from thawlab.compare.plots.matplotlib_charts import write_pictures
from thawlab.compare.plots.plotly_charts import figure
from thawlab.compare.report.thumbnails import thumbnail
from thawlab.compare.wording import formats
from thawlab.compare.wording.reference_row import best
from thawlab.compare.wording.table_columns import columns, legend, row_label, seed_of
from thawlab.console import left_out_if_it_fails
from thawlab.tracking.select_runs import RunRecord

_CLASS_COLUMNS = 12
_IMAGES = 96  # each takes some 5 kB of the page


def write_report(comparison: Comparison, folder: Path) -> Path:
    """Write `report.html`; pictures for paper are taken from `plots/` in the folder if they lie there.

    The page holds plotly, so it has about 5 MB; it asks nothing of the network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = folder / "plots"
    if plots.is_dir():
        text = report_page(comparison, plots)
    else:
        with TemporaryDirectory() as drawn:
            write_pictures(comparison, Path(drawn))
            text = report_page(comparison, Path(drawn))
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def report_page(comparison: Comparison, pictures: Path) -> str:
    """The page; `pictures` is the folder with the plots' SVG files, which stand in for the plots on paper."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breaks"] = _breaks
    plots: list[dict[str, Any]] = []
    for chart in charts(comparison):
        with left_out_if_it_fails(f"the plot {chart.name} of the report"):
            plots.append(_plot(comparison, chart, pictures))
    shown = columns(comparison)
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        columns=shown,
        legend=legend(comparison, shown),
        rows=_rows(comparison),
        groups=_groups(plots),
        pairs=_pairs(comparison),
        classes=_class_table(comparison),
        images=_images(comparison),
        images_left=max(0, len(comparison.disagreements) - _IMAGES),
        excluded=[{**_run(comparison, each.run), "reason": each.reason} for each in comparison.grouping.excluded],
        facts=_facts(comparison),
        # Parallel coordinates compile their shaders' code when they are drawn; nothing else needs to.
        evaluates=any(plot["chart"].kind == "parallel" for plot in plots),
        plotly=get_plotlyjs() if plots else "",
    )


def _plot(comparison: Comparison, chart: Chart, pictures: Path) -> dict[str, Any]:
    drawn = figure(comparison, chart)
    menus = drawn.layout.updatemenus  # pyright: ignore[reportAttributeAccessIssue]
    choices = [unescape(button.label) for menu in menus for button in menu.buttons]
    # The page has a menu of its own, which a keyboard and a thumb can use; and on paper there is none.
    drawn.layout.updatemenus = []  # pyright: ignore[reportAttributeAccessIssue]
    picture = pictures / f"{chart.name}.svg"
    if picture.is_file():
        address = f"data:image/svg+xml;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    else:
        address = ""  # it could not be drawn
    return {
        "chart": chart,
        "choices": choices,
        # Parallel axes cannot be told apart on a phone: there they are scrolled.
        "width": 130 * len(chart_data.parallel_axes(comparison)) if chart.kind == "parallel" else 0,
        "height": drawn.layout.height,  # pyright: ignore[reportAttributeAccessIssue]
        "json": _inside_script(str(drawn.to_json())),
        "picture": address,
    }


def _breaks(text: str) -> Markup:
    """Text that may be broken after the signs that join words, where a page is narrow."""
    return Markup(re.sub(r"([_/=,])(?=\w)", r"\1<wbr>", str(escape(text))))


def _inside_script(text: str) -> str:
    """JSON that cannot end the script element around it, whatever its strings say."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _groups(plots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Plots that stand side by side where there is room, under one heading."""
    together: dict[str, str] = {"pareto": "What it costs", "classes": "Classes", "confusion": "Classes"}
    groups: dict[str, list[dict[str, Any]]] = {}
    for plot in plots:
        chart: Chart = plot["chart"]
        groups.setdefault(together.get(chart.kind, chart.title), []).append(plot)
    return [{"title": title, "plots": found} for title, found in groups.items()]


def _rows(comparison: Comparison) -> list[list[dict[str, str]]]:
    """The runs behind each row, with the metric of each."""
    return [
        [
            {**_run(comparison, run), "value": formats.amount(value, comparison.percent)}
            for run, value in zip(row.configuration.runs, row.values, strict=True)
        ]
        for row in comparison.rows
    ]


def _run(comparison: Comparison, run: RunRecord) -> dict[str, str]:
    link = comparison.links.get(run.run_id, "")
    # Nothing but a page: a link that runs a script would be one that a store's user could plant.
    safe = link if urlsplit(link).scheme in ("http", "https") else ""
    return {"id": run.run_id, "name": run.name, "seed": seed_of(run), "link": safe}


def _pairs(comparison: Comparison) -> list[list[str]]:
    percent = comparison.percent
    return [
        [
            f"{pair.first + 1}  {row_label(comparison, pair.first)}",
            f"{pair.second + 1}  {row_label(comparison, pair.second)}",
            formats.difference(pair.difference.value, percent),
            formats.interval(pair.difference.low, pair.difference.high, percent),
            formats.p_value(pair.difference.p),
            formats.p_value(pair.difference.p_holm),
            formats.effect(pair.difference.effect, pair.difference.measure),
            pair.difference.test,
        ]
        for pair in comparison.pairs
    ]


def _class_table(comparison: Comparison) -> dict[str, Any] | None:
    """How much of each class is right, the best configuration first."""
    first = best(comparison)
    if first is None or not comparison.classes or comparison.rows[first].confusion is None:
        return None
    places = [first, *chart_data.others_with_confusion(comparison)][:_CLASS_COLUMNS]
    right = np.array([chart_data.shares(comparison.rows[place]).diagonal() for place in places]).T  # (classes, places)
    rows = [
        (name, [formats.amount(float(value), percent=True) for value in values])
        for name, values in zip(comparison.classes, right, strict=True)
    ]
    heads = [f"{place + 1}  {row_label(comparison, place)}" for place in places]
    return {"heads": heads, "rows": rows, "longest": max(map(len, ("class", *comparison.classes)))}


def _images(comparison: Comparison) -> list[dict[str, Any]]:
    """Images that two configurations see differently, sorted into those pairs."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    dataset = comparison.grouping.constants.get("dataset.name", "")
    for each in comparison.disagreements[:_IMAGES]:
        picture = thumbnail(each.path, each.hash, dataset, each.sample)
        shown = {"image": each, "picture": picture, "margin": _more_often(comparison, each)}
        groups.setdefault((each.right, each.wrong), []).append(shown)
    return [
        {"right": row_label(comparison, right), "wrong": row_label(comparison, wrong), "images": found}
        for (right, wrong), found in groups.items()
    ]


def _more_often(comparison: Comparison, image: Disagreement) -> str:
    """How much more often the first configuration is right: in runs, where the margin says how many."""
    first, second = (len(comparison.rows[place].configuration.runs) for place in (image.right, image.wrong))
    if image.margin > 1 - 1e-6:
        return f"right in {first} of {first} runs, and in 0 of {second}"
    runs = round(image.margin * first)
    if first == second and abs(image.margin * first - runs) < 1e-6:
        return f"right in {runs} more {'run' if runs == 1 else 'runs'} (of {first} each)"
    return f"right in a share of its runs that is {100 * image.margin:.0f} points higher"


def _facts(comparison: Comparison) -> Mapping[str, str]:
    runs = sum(len(row.configuration.runs) for row in comparison.rows)
    better = "more is better" if comparison.higher_is_better else "less is better"
    facts = {
        "metric": f"{formats.metric_words(comparison.metric)} ({better})",
        "configurations": f"{len(comparison.rows)}",
        "runs": f"{runs}",
    }
    return {**facts, "test samples": f"{comparison.samples:,}"} if comparison.samples else facts
