from dataclasses import replace
from pathlib import Path

import examples
import numpy as np
import pytest
from PIL import Image

from thawlab.compare.comparison import Comparison
from thawlab.compare.plots import chart_data
from thawlab.compare.plots.chart_list import Chart, charts
from thawlab.compare.plots.matplotlib_charts import picture, write_pictures
from thawlab.compare.plots.plotly_charts import figures
from thawlab.compare.plots.point_labels import ON_A_PAGE, numbers

PARETO = ("pareto_trainable_params", "pareto_seconds", "pareto_peak_memory_mb")


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (
            examples.depth_sweep,
            ["depth_freeze", "configurations", *PARETO, "learning_curves", "classes", "confusion_differences"],
        ),
        (
            examples.strategies,
            [
                *["configurations", *PARETO[:2], "learning_curves", "classes", "confusion_differences"],
                "parallel_coordinates",
            ],
        ),
        (examples.single_run, ["configurations", "learning_curves"]),
        (examples.cost_only, ["configurations", "pareto_trainable_params", "learning_curves"]),
        (examples.without_intervals, ["depth_freeze", "configurations", *PARETO, "learning_curves"]),
        (examples.nothing, []),
    ],
)
def test_only_plots_that_make_sense_are_drawn(example, expected):
    comparison = example()
    assert list(figures(comparison)) == [chart.name for chart in charts(comparison)] == expected


@pytest.mark.parametrize("example", [examples.depths_by_strategy, examples.without_intervals, examples.hostile])
def test_each_plot_is_a_picture_too(example, tmp_path: Path):
    comparison = example()
    paths = write_pictures(comparison, tmp_path / "plots")
    assert [path.name for path in paths] == [f"{name}.{end}" for name in figures(comparison) for end in ("svg", "png")]
    for path in paths:
        if path.suffix == ".png":
            assert len(np.unique(np.asarray(Image.open(path).convert("L")))) > 20  # not blank
        else:
            assert "<svg" in path.read_text(encoding="utf-8")


def test_the_same_comparison_gives_the_same_pictures(tmp_path: Path):
    comparison = examples.cost_only()
    first, second = (write_pictures(comparison, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_depth_curve_has_a_line_for_each_setting_of_the_others():
    comparison = examples.depths_by_strategy()
    lines = chart_data.depth_lines(comparison, "freeze")
    assert [(line.name, line.depths) for line in lines] == [
        ("strategy=l2_sp", (0.0, 2.0, 4.0)),
        ("strategy=gradual", (0.0, 2.0, 4.0)),
        ("strategy=finetune", (0.0, 2.0, 4.0)),
    ]
    drawn = figures(comparison)["depth_freeze"].data[1]
    rows = [comparison.rows[place] for place in lines[0].places]
    assert list(drawn.y) == [100 * row.estimate.mean for row in rows]
    assert list(drawn.error_y.array) == pytest.approx([100 * (row.estimate.high - row.estimate.mean) for row in rows])


def test_a_depth_given_in_words_is_read_from_what_the_run_recorded():
    row = examples.depth_sweep().rows[0]
    run = examples.run_record("a" * 32, 0, {"freeze": "all", "freeze_depth": "8"})
    row = replace(row, configuration=replace(row.configuration, factors={"freeze": "all"}, runs=(run,)))
    assert chart_data.depth_of(row, "freeze") == 8


def test_the_front_is_drawn_from_the_cheapest_on():
    comparison = examples.depth_sweep()
    places = chart_data.front(comparison, "cost/trainable_params")
    costs = [comparison.rows[place].costs["cost/trainable_params"] for place in places]
    assert costs == sorted(costs)
    line = figures(comparison)["pareto_trainable_params"].data[0]
    assert list(line.x) == costs


def test_a_confusion_difference_is_the_best_minus_the_other():
    rows = examples.depth_sweep().rows[:2]
    one, two = np.array([[9, 1], [0, 10]]), np.array([[5, 5], [10, 10]])
    rows = (replace(rows[0], confusion=one), replace(rows[1], confusion=two))
    comparison = replace(examples.depth_sweep(), rows=rows, classes=("a", "b"))
    (difference,) = chart_data.confusion_differences(comparison)
    assert difference.values.tolist() == pytest.approx(np.array([[0.4, -0.4], [-0.5, 0.5]]))
    (by_class,) = chart_data.class_differences(comparison)
    assert by_class.values.tolist() == pytest.approx([0.4, 0.5])


def test_of_many_classes_those_that_differ_most_are_shown():
    rng = np.random.default_rng(0)
    rows = [replace(row, confusion=rng.integers(1, 9, (120, 120))) for row in examples.depth_sweep().rows[:2]]
    rows[1].confusion[7] = 0  # no sample of this class
    names = tuple(f"class {number}" for number in range(120))
    comparison = replace(examples.depth_sweep(), rows=tuple(rows), classes=names)
    (difference,) = chart_data.confusion_differences(comparison)
    assert difference.values.shape == (30, 30)
    assert np.isfinite(difference.values).all()
    drawn = figures(comparison)
    assert "The 30 of 120 classes" in next(chart.text for chart in charts(comparison) if chart.kind == "confusion")
    assert len(drawn["confusion_differences"].data[0].x) == 30


def test_numbers_of_points_that_are_close_stand_on_different_sides_or_are_left_out():
    comparison = examples.close_together()
    sides = numbers(comparison, "cost/seconds", ON_A_PAGE)
    assert sides[0] == "top center"  # the best comes first
    assert len(set(sides.values())) > 3
    assert 5 < len(sides) < len(comparison.rows)
    drawn = figures(comparison)["pareto_seconds"]
    shown = [pair for each in drawn.data[1:] for pair in zip(each.text, each.textposition, strict=True) if pair[0]]
    assert dict(shown) == {str(place + 1): side for place, side in sides.items()}
    chart = next(each for each in charts(comparison) if each.name == "pareto_seconds")
    assert "numbers, where there is room for them, are places" in chart.text


def curves(count: int, without: int = 0) -> tuple[Comparison, Chart]:
    settings = [{"freeze": str(depth)} for depth in range(count)]
    comparison = examples.build(settings, lambda at: 0.95 - 0.01 * int(at["freeze"]), predictions=False)
    rows = [replace(row, curve={}) if place < without else row for place, row in enumerate(comparison.rows)]
    comparison = replace(comparison, rows=tuple(rows))
    return comparison, next(chart for chart in charts(comparison) if chart.kind == "curves")


@pytest.mark.parametrize(
    ("count", "without", "drawn", "named", "says", "more"),
    [
        (10, 0, range(10), 10, "of each configuration: ", ""),
        (5, 2, [2, 3, 4], 3, "of the 3 of 5 configurations that recorded it: ", ""),
        (15, 0, [*range(9), 14], 15, "of 10 of 15 configurations, the best 9 and the worst: ", "5 more can be"),
        (30, 0, [*range(9), 29], 20, "of 10 of 30 configurations, the best 9 and the worst: ", "10 more can be"),
    ],
)
def test_the_caption_of_learning_curves_says_how_many_are_drawn(count, without, drawn, named, says, more):
    comparison, chart = curves(count, without)
    assert says in chart.text
    assert chart.more.startswith(more)
    assert bool(chart.more) == bool(more)
    lines = [each for each in figures(comparison)["learning_curves"].data if each.showlegend is not False]
    assert len(lines) == named
    assert [each.legendgroup for each in lines if each.visible is True] == [str(place) for place in drawn]
    pictured = [line.get_label().partition(" ")[0] for line in picture(comparison, chart).axes[0].get_lines()]
    assert pictured == [str(place + 1) for place in drawn]


def test_lines_of_learning_curves_look_different_even_where_colours_come_again():
    comparison, chart = curves(10)
    looks = {(str(line.get_color()), line.get_linestyle()) for line in picture(comparison, chart).axes[0].get_lines()}
    assert len(looks) == 10


@pytest.mark.parametrize("name", ["classes", "confusion_differences"])
def test_pictures_of_classes_show_configurations_that_differ_from_the_best_first(name):
    comparison = examples.depth_sweep()
    far = {4, 6}
    rows = [replace(row, distinguishable=place in far) for place, row in enumerate(comparison.rows)]
    comparison = replace(comparison, rows=tuple(rows))
    chart = next(each for each in charts(comparison) if each.name == name)
    titles = [axes.get_title(loc="left") for axes in picture(comparison, chart).axes]
    assert [title.split()[1] for title in titles if title] == ["2", "3", "5", "7"]


def test_of_many_configurations_some_that_differ_from_the_best_are_held_against_it():
    settings = [{"freeze": str(depth)} for depth in range(30)]
    comparison = examples.build(settings, lambda at: 0.95 - 0.001 * int(at["freeze"]))
    rows = [replace(row, distinguishable=place > 27) for place, row in enumerate(comparison.rows)]
    found = chart_data.others_with_confusion(replace(comparison, rows=tuple(rows)))
    assert found == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 28, 29]


def test_classes_that_are_called_by_numbers_are_all_named():
    comparison = replace(examples.depth_sweep(), classes=tuple("01234"))
    drawn = figures(comparison)
    axes = [drawn["classes"].layout.yaxis, *(drawn["confusion_differences"].layout[at] for at in ("xaxis", "yaxis"))]
    assert [(each.type, each.dtick) for each in axes] == [("category", 1)] * 3


def test_long_settings_and_classes_are_told_apart_on_their_axes():
    names = [f"tf_efficientnet_lite{number}" for number in range(3)]
    settings = [{"backbone.name": name, "freeze": depth} for name in names for depth in ("0", "all")]
    comparison = examples.build(settings, lambda at: 0.9 + names.index(at["backbone.name"]) / 100)
    comparison = replace(comparison, classes=tuple(f"a class of very long names {letter}" for letter in "abcde"))
    drawn = figures(comparison)
    assert len(set(drawn["parallel_coordinates"].data[0].dimensions[0].ticktext)) == 3
    assert len(set(drawn["classes"].data[0].y)) == len(set(drawn["confusion_differences"].data[0].x)) == 5


def test_no_name_is_read_as_markup():
    for name, drawn in figures(examples.hostile()).items():
        if name != "parallel_coordinates":  # its ticks are text whatever they say
            assert "<script" not in str(drawn.to_json()), name
