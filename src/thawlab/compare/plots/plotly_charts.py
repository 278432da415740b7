"""Interactive plots of a comparison, as plotly figures."""

import plotly.graph_objects as go

from thawlab.compare.comparison import Comparison, Row
from thawlab.compare.plots import chart_data, palette, plotly_class_charts, row_limits
from thawlab.compare.plots.chart_list import Chart, axis_title, charts, scale
from thawlab.compare.plots.plotly_style import axis, base, below, error_bar, wrapped
from thawlab.compare.plots.point_labels import ON_A_PAGE, numbers, span
from thawlab.compare.plots.row_groups import hover, status_groups
from thawlab.compare.wording import formats
from thawlab.compare.wording.table_columns import row_label


def figures(comparison: Comparison) -> dict[str, go.Figure]:
    """All plots that the comparison has the numbers for, by name."""
    return {chart.name: figure(comparison, chart) for chart in charts(comparison)}


def figure(comparison: Comparison, chart: Chart) -> go.Figure:
    """One of them; it has no title, which stands above it."""
    match chart.kind:
        case "depth":
            return _depth(comparison, chart.key)
        case "dots":
            return _dots(comparison)
        case "pareto":
            return _pareto(comparison, chart.key)
        case "curves":
            return _curves(comparison)
        case "confusion":
            return plotly_class_charts.confusion(comparison)
        case "classes":
            return plotly_class_charts.classes(comparison)
        case "parallel":
            return plotly_class_charts.parallel(comparison)


def _depth(comparison: Comparison, key: str) -> go.Figure:
    lines = chart_data.depth_lines(comparison, key)
    unit, drawn = scale(comparison), go.Figure()
    names = [wrapped(line.name, 40) for line in lines]
    for number, line in enumerate(lines):
        shade, group = palette.colour(number), str(number)
        rows = [comparison.rows[place] for place in line.places]
        # Lines stand a little apart, or their intervals would lie on each other.
        shift = 0.09 * (number - (len(lines) - 1) / 2) / max(1, len(lines) / 4)
        at = [depth + shift for depth in line.depths]
        seeds = [
            (x, unit * value) for x, row in zip(at, rows, strict=True) if len(row.values) > 1 for value in row.values
        ]
        drawn.add_scatter(
            x=[x for x, _ in seeds],
            y=[y for _, y in seeds],
            mode="markers",
            hoverinfo="skip",
            legendgroup=group,
            showlegend=False,
            marker={"color": palette.faded(shade, 0.4), "size": 5},
        )
        drawn.add_scatter(
            x=at,
            y=[unit * row.estimate.mean for row in rows],
            name=names[number],
            legendgroup=group,
            mode="lines+markers",
            showlegend=len(lines) > 1,
            line={"color": shade, "width": 2.5, "dash": palette.DASHES[palette.turn(number)]},
            marker={"size": 8, "symbol": palette.MARKS[number % len(palette.MARKS)]},
            error_y=error_bar(rows, unit, shade),
            hovertext=[hover(comparison, place) for place in line.places],
            hoverinfo="text",
        )
    depths = sorted({depth for line in lines for depth in line.depths})
    ticks = [f"{depth:g}" for depth in depths]
    title = f"{key} depth: {'frozen' if key == 'freeze' else 'copied'} up to and including this stage"
    drawn.update_layout(
        base(400, legend=below(names)),
        xaxis=axis(title, tickvals=depths, ticktext=ticks, showgrid=False),
        yaxis=axis(axis_title(comparison)),
    )
    return drawn


def _dots(comparison: Comparison) -> go.Figure:
    unit, drawn = scale(comparison), go.Figure()
    labels = [f"{place + 1}  {wrapped(row_label(comparison, place))}" for place in range(len(comparison.rows))]
    seeds = [(unit * value, place) for place, row in enumerate(comparison.rows) for value in _several(row)]
    for name, shade, symbol, places in status_groups(comparison):
        rows = [comparison.rows[place] for place in places]
        drawn.add_scatter(
            x=[unit * row.estimate.mean for row in rows],
            y=list(places),
            name=name,
            mode="markers",
            marker={"color": shade, "size": 11, "symbol": symbol},
            error_x=error_bar(rows, unit, shade),
            hovertext=[hover(comparison, place) for place in places],
            hoverinfo="text",
        )
    drawn.add_scatter(
        x=[x for x, _ in seeds],
        y=[y for _, y in seeds],
        mode="markers",
        hoverinfo="skip",
        showlegend=bool(seeds),
        name="a seed",
        marker={"color": "rgba(123,135,148,0.75)", "size": 5},
    )
    lines = sum(1.6 + label.count("<br>") for label in labels)
    drawn.update_layout(
        base(110 + max(90, round(19 * lines)), legend=below([""] * 4)),
        xaxis=axis(axis_title(comparison)),
        yaxis=axis("", tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.4, -0.6]),
    )
    return drawn


def _pareto(comparison: Comparison, cost: str) -> go.Figure:
    unit, drawn = scale(comparison), go.Figure()
    front = chart_data.front(comparison, cost)
    known = [place for place, row in enumerate(comparison.rows) if cost in row.costs]
    named = numbers(comparison, cost, ON_A_PAGE)
    drawn.add_scatter(
        x=[comparison.rows[place].costs[cost] for place in front],
        y=[unit * comparison.rows[place].estimate.mean for place in front],
        mode="lines",
        name="front",
        hoverinfo="skip",
        line={"color": palette.COLOURS[1], "width": 2, "shape": "hv"},
    )
    for name, shade, symbol, places in status_groups(comparison, known):
        rows = [comparison.rows[place] for place in places]
        drawn.add_scatter(
            x=[row.costs[cost] for row in rows],
            y=[unit * row.estimate.mean for row in rows],
            name=name,
            mode="markers+text",
            text=[str(place + 1) if place in named else "" for place in places],
            textposition=[named.get(place, "top center") for place in places],
            textfont={"size": 11},
            marker={"color": shade, "size": 10, "symbol": symbol},
            hoverinfo="text",
            hovertext=[_cost_hover(comparison, place, cost) for place in places],
        )
    costs = [comparison.rows[place].costs[cost] for place in known]
    kind = {"type": "log", "dtick": 1} if chart_data.wants_log(costs) else {"nticks": 5}
    drawn.update_layout(
        base(360, legend=below([""] * 4)),
        xaxis=axis(formats.metric_words(cost), **kind),
        yaxis=axis(
            axis_title(comparison), range=span([unit * comparison.rows[place].estimate.mean for place in known])
        ),
    )
    return drawn


def _cost_hover(comparison: Comparison, place: int, cost: str) -> str:
    value = formats.cost(cost, comparison.rows[place].costs[cost])
    return hover(comparison, place, f"{formats.metric_words(cost)}: {value}")


def _curves(comparison: Comparison) -> go.Figure:
    drawn = go.Figure()
    places, at_first = row_limits.curve_places(comparison), row_limits.drawn_curves(comparison)
    names = [wrapped(f"{place + 1}  {row_label(comparison, place)}", 40) for place in places]
    for number, place in enumerate(places):
        row, shade, group = comparison.rows[place], palette.colour(number), str(place)
        epochs, values = chart_data.curve_of(row)
        low, mean, high = (100 * values).T
        visible = True if place in at_first else "legendonly"  # shown when it is asked for in the legend
        drawn.add_scatter(
            x=[*epochs, *reversed(epochs)],
            y=[*high, *low[::-1]],
            fill="toself",
            mode="lines",
            hoverinfo="skip",
            fillcolor=palette.faded(shade, 0.16),
            line={"width": 0},
            legendgroup=group,
            showlegend=False,
            visible=visible,
        )
        drawn.add_scatter(
            x=epochs,
            y=mean,
            name=names[number],
            legendgroup=group,
            mode="lines+markers" if len(epochs) < 4 else "lines",
            visible=visible,
            line={"color": shade, "width": 2.2, "dash": palette.DASHES[palette.turn(number)]},
        )
    last = max((max(comparison.rows[place].curve, default=0) for place in places), default=0)
    drawn.update_layout(
        base(400, legend=below(names)),
        xaxis=axis("epoch", showgrid=False, dtick=max(1, last // 8)),
        yaxis=axis("validation accuracy (%)"),
    )
    return drawn


def _several(row: Row) -> tuple[float, ...]:
    return row.values if len(row.values) > 1 else ()
