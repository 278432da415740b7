from dataclasses import replace
from io import StringIO

import examples
import pytest
from rich.console import Console

from thawlab.compare.report.terminal import show


def shown(comparison, width: int, terminal: bool = True) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=terminal, color_system=None)
    with console.capture() as written:
        show(comparison, console)
    return written.get()


@pytest.mark.parametrize("example", examples.ALL)
@pytest.mark.parametrize("width", [80, 200])
def test_no_line_is_wider_than_the_terminal(example, width):
    assert all(len(line) <= width for line in shown(example(), width).splitlines())


def test_the_conclusion_comes_before_the_table():
    comparison = examples.depth_sweep()
    text = shown(comparison, 80)
    assert text.index(comparison.conclusion[0]) < text.index("95 % interval")


def test_a_narrow_terminal_gets_the_important_columns_and_the_names_of_the_rest():
    text = shown(examples.depths_by_strategy(), 80)
    head = next(line for line in text.splitlines() if "interval" in line)
    assert head.split() == [
        "#",
        "freeze",
        "strategy",
        "test/acc",
        "95",
        "%",
        "interval",
        "seeds",
        "vs",
        "best",
        "p",
        "(Holm)",
    ]
    assert "not shown at this width: ± sd, trained, seconds" in text
    best = next(line for line in text.splitlines() if line.startswith(" 1 ★"))
    assert best.split()[:3] == ["1", "★", "◆"]  # the front's mark stands here, since its column is gone


def test_a_wide_terminal_gets_all_columns():
    text = shown(examples.depths_by_strategy(), 160)
    assert "not shown" not in text
    row = next(line for line in text.splitlines() if line.startswith(" 2 ≈"))
    assert row.split("  ")[0].strip() == "2 ≈"
    assert "91.7 %" in row
    assert "[90.4, 93.0]" in row
    assert "−0.7" in row
    assert "1.8 M ◆" in row


@pytest.mark.parametrize("example", [examples.strategies, examples.hostile])
def test_what_is_redirected_is_plain_and_not_cut(example):
    comparison = example()
    text = shown(comparison, 40, terminal=False)
    assert "\x1b" not in text
    for column in ("± sd", "p (Holm)", "trained", "seconds"):
        assert column in text
    for value in {value for row in comparison.rows for value in row.configuration.factors.values()}:
        assert value in text  # brackets and all
    for each in comparison.grouping.excluded:
        assert f"{each.run.run_id}  {each.reason}" in text


def test_what_is_not_known_is_a_dash():
    text = shown(examples.single_run(), 120)
    row = next(line for line in text.splitlines() if line.startswith(" 1 ★"))
    assert row.split()[2:7] == ["seed=0", "87.1", "%", "–", "–"]
    assert "nan" not in text


def test_constants_are_said_once():
    text = shown(examples.depth_sweep(), 200)
    assert text.count("resnet18") == 1
    assert "the same for all: backbone.name=resnet18 dataset.name=flowers" in text


def test_what_differs_in_more_than_the_seed_is_not_counted_as_seeds():
    comparison = examples.depth_sweep()
    pooled = replace(comparison, grouping=replace(comparison.grouping, pooled=("optimizer.lr",)))
    head = next(line for line in shown(pooled, 160).splitlines() if "interval" in line)
    assert "runs" in head
    assert "seeds" not in head
