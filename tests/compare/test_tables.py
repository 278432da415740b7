import csv
import shutil
import subprocess
from pathlib import Path

import examples
import pandas as pd
import pytest

from thawlab.compare.report.tables import for_spreadsheets, frame, markdown, pairs_frame, write_tables
from thawlab.compare.wording import formats
from thawlab.system.printable import visible


def test_a_row_names_the_runs_behind_it():
    comparison = examples.depth_sweep()
    table = frame(comparison)
    assert list(table["run_ids"]) == [" ".join(run.run_id for run in row.configuration.runs) for row in comparison.rows]
    assert [tuple(map(float, text.split())) for text in table["values"]] == [row.values for row in comparison.rows]


def test_the_table_comes_back_from_its_file_with_all_digits(tmp_path: Path):
    comparison = examples.depths_by_strategy()
    write_tables(comparison, tmp_path)
    table = pd.read_csv(tmp_path / "table.csv", dtype={"freeze": str})
    assert list(table["mean"]) == [row.estimate.mean for row in comparison.rows]
    assert list(table["freeze"]) == [row.configuration.factors["freeze"] for row in comparison.rows]
    assert table["seeds"][0] == "0 1 2"
    assert list(table["cost/trainable_params"]) == [row.costs["cost/trainable_params"] for row in comparison.rows]


def test_differences_are_to_the_baseline_whichever_way_round_the_pair_is():
    comparison = examples.strategies()
    assert comparison.baseline == 3
    table = frame(comparison)
    means = [row.estimate.mean for row in comparison.rows]
    for place, value in enumerate(table["difference"]):
        if place == 3:
            assert pd.isna(value)
        else:
            assert value == pytest.approx(means[place] - means[3])
            assert table["difference_low"][place] < value < table["difference_high"][place]
    assert set(table["compared_with"].dropna()) == {"baseline"}


def test_pairs_have_the_runs_of_both_sides():
    comparison = examples.depth_sweep()
    pairs = pairs_frame(comparison)
    assert len(pairs) == 8 * 7 / 2
    assert pairs["first_run_ids"][0] == " ".join(run.run_id for run in comparison.rows[0].configuration.runs)
    assert {"difference", "difference_low", "difference_high", "p", "p_holm", "effect", "test"} <= set(pairs)


@pytest.mark.parametrize("example", examples.ALL)
def test_every_kind_of_comparison_has_tables(example, tmp_path: Path):
    names = [path.name for path in write_tables(example(), tmp_path)]
    assert names == ["table.csv", "pairs.csv", "table.md", "table.tex"]
    assert "nan" not in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_markdown_escapes_what_is_its_own():
    text = markdown(examples.hostile())
    assert "<script>" not in text
    assert r"a\|b\*c\`d" in text
    rows = [line.replace(r"\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {rows[0].count("|")}


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t=", "\r=", "\n=", "a\r=", " =", "|", "＝", "＋", "－", "＠"])
def test_no_cell_and_no_header_is_one_that_a_spreadsheet_computes(tmp_path: Path, first):
    formula = f"{first}cmd|'/C calc'!A1"
    settings = [{"note.name": formula, f"{first}2+3": rate} for rate in ("0.01", "-0.1")]
    write_tables(examples.build(settings, lambda at: 0.8 + float(at[f"{first}2+3"])), tmp_path)
    for name in ("table.csv", "pairs.csv"):
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        begins = {cell.lstrip(" ")[:1] for cell in cells if not is_number(cell)}
        assert not begins & set("=+-@\t\r\n|＝＋－＠")
        assert any(visible(formula) in cell for cell in cells)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_numbers_stay_numbers_for_a_spreadsheet():
    kept = pd.DataFrame({"difference": [-0.5, 1e-5], "freeze": ["-1", "+2.5e-3"], "name": ["a=b", "x-y"]})
    pd.testing.assert_frame_equal(for_spreadsheets(kept), kept)


def test_latex_sets_the_best_in_bold_and_says_the_constants_in_the_caption(tmp_path: Path):
    comparison = examples.depth_sweep()
    write_tables(comparison, tmp_path)
    text = (tmp_path / "table.tex").read_text(encoding="utf-8")
    best = comparison.rows[0].configuration.factors["freeze"]
    row = next(line for line in text.splitlines() if "textbf" in line)
    assert row.split(" & ")[:2] == [r"    \textbf{1 $\star$}", rf"\textbf{{{best}}}"]
    assert text.count("textbf") == row.count("textbf")
    assert r"The same for all: backbone.name=resnet18" in text
    assert r"optimizer.weight\_decay=0.01" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
@pytest.mark.parametrize("example", [examples.hostile, examples.strategies, examples.single_run])
def test_latex_compiles(example, tmp_path: Path):
    write_tables(example(), tmp_path)
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs}\usepackage{graphicx}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{table}}\end{{document}}"
    (tmp_path / "page.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert result.returncode == 0, result.stdout[-2000:]
    assert "Overfull" not in result.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.amount(0.9123, True), "91.2 %"),
        (formats.amount(float("nan"), True), "–"),
        (formats.amount(None, False), "–"),
        (formats.amount(0.5, False), "0.5000"),
        (formats.amount(1234.4, False), "1,234"),
        (formats.difference(0.0131, True), "+1.3"),
        (formats.difference(-0.0131, True), "−1.3"),
        (formats.difference(-0.0001, True), "0.0"),
        (formats.interval(-0.01, 0.02, True), "[−1.0, 2.0]"),
        (formats.interval(float("nan"), 0.02, True), "–"),
        (formats.p_value(0.0004), "< 0.001"),
        (formats.p_value(0.004), "0.004"),
        (formats.p_value(float("nan")), "–"),
        (formats.count(5130), "5,130"),
        (formats.count(11_181_642), "11.2 M"),
        (formats.count(286_700), "286.7 k"),
        (formats.spread(0.0043, True), "± 0.4"),
    ],
)
def test_numbers_as_people_read_them(text, expected):
    assert text == expected


def test_long_labels_break_between_words():
    text = "1  strategy=linear_probe_then_fine_tuning lr=0.01"
    assert formats.broken(text, 28) == ["1  strategy=linear_probe_", "then_fine_tuning lr=0.01"]
    assert formats.broken("a" * 30, 28) == ["a" * 28, "aa"]
    assert formats.broken("", 28) == [""]
