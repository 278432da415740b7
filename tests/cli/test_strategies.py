"""The table of all strategies, planned on two small networks."""

from pathlib import Path

import pytest

from small_fits import small
from thawlab.cli import main, strategies, strategies_page
from thawlab.cli.strategies import Row
from thawlab.strategies.contract import STRATEGIES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table():
    """The rows by the strategy's name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strategies, "BACKBONES", {"ResNet": "test_resnet", "ViT": "test_vit"})
        patch.setattr(strategies, "CLASSES", 3)
        patch.setattr(strategies, "IMAGE_SIZE", 160)
        return {row.name.partition(",")[0]: row for row in strategies.rows()}


def test_every_strategy_is_in_the_table(table):
    assert list(table) == sorted(STRATEGIES.names())


def test_a_strategy_is_told_by_its_phases_rates_and_parameters(table):
    size = sum(parameter.numel() for parameter in small("test_resnet").parameters())
    assert table["finetune"].phases == ("head + stem–layer4, 10 epochs",)
    assert table["finetune"].rates == "head 1, below 0.5"
    assert table["finetune"].parameters[0] == f"{size / 1e3:.1f} k"
    head = sum(parameter.numel() for parameter in small("test_resnet").get_classifier().parameters())
    assert table["linear_probe"] == Row(
        "linear_probe",
        ("head, solved for (as 1 epoch)",),
        "–",
        (f"{head / 1e3:.1f} k", "0.2 k"),  # of the ViT: 64 × 3 weights and 3 biases
        "Kornblith et al. 2019, arXiv:1805.08974",
    )


def test_phases_are_named_where_there_are_several(table):
    assert table["lp_ft"].phases == (
        "linear_probe: head, solved for (as 1 epoch)",
        "finetune: head + stem–layer4, 9 epochs",
    )
    assert table["gradual"].phases == (
        "head: head, 1 epoch",
        "layer4: head + layer4, 1 epoch",
        "…",
        "stem: head + stem–layer4, 5 epochs",
    )
    assert table["freeze_unfreeze"].rates == "head 0.5–1, below 0.005–0.2"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("bitfit", "head + part of stem–layer4, 10 epochs"),
        ("l2_sp", "head + stem–layer4, 10 epochs, a term in the loss"),
        ("lora", "head + what is added to stem–layer4, 10 epochs"),
        ("lwf", "head + stem–layer4 + source classifier, 10 epochs, a term in the loss"),
        ("scratch", "head + stem–layer4 from new random values, 10 epochs"),
        ("surgical", "head + one of stem–layer4, 10 epochs"),
        ("transplant", "head + layer3–layer4, 10 epochs"),
    ],
)
def test_what_is_trained_is_told_from_the_plan(table, name, line):
    assert table[name].phases == (line,)


def test_a_strategy_that_does_not_apply_has_a_dash(table):
    assert table["stoch_norm"].parameters[1] == table["adapter"].parameters[0] == "–"
    assert table["adapter"].phases[0].startswith("head + what is added to blocks.0–")


def test_an_automatic_choice_is_told_as_a_range(table):
    low, high = (float(end.removesuffix(" k")) for end in table["surgical"].parameters[0].split("–"))
    assert 0 < low < high < float(table["finetune"].parameters[0].removesuffix(" k"))


def test_the_page_has_a_line_for_each_strategy_with_a_link_to_its_paper(table):
    lines = strategies_page.markdown(table.values()).splitlines()
    starts = [f"| `{name}`" for name in table]
    assert [line.split("`")[1] for line in lines if line.startswith(tuple(starts))] == list(table)
    columns = {line.count(" | ") for line in lines if line.startswith("| ")}
    assert columns == {len(strategies_page.COLUMNS) - 1}
    assert any("[arXiv:2106.09685](https://arxiv.org/abs/2106.09685)" in line for line in lines)


def test_the_command_prints_the_table(table, monkeypatch, capsys):
    monkeypatch.setattr(strategies, "rows", lambda: iter(table.values()))
    monkeypatch.setenv("COLUMNS", "200")
    assert main.strategies([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in table)
    assert main.strategies(["--markdown"]) == 0
    assert capsys.readouterr().out == strategies_page.markdown(table.values())


@pytest.mark.slow
def test_the_page_in_docs_is_what_the_command_prints():
    page = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    assert strategies_page.markdown(strategies.rows()) == page
