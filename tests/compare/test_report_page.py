import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import examples
import numpy as np
import pytest
from PIL import Image

from thawlab.compare.comparison import Disagreement
from thawlab.compare.report import write_files
from thawlab.compare.report.html import write_report
from thawlab.compare.report.thumbnails import thumbnail
from thawlab.compare.report.write_files import write_all
from thawlab.data.images import bytes_hash


class Page(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._silent = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Page:
    path = write_report(examples.depths_by_strategy(), tmp_path_factory.mktemp("report"))
    return Page(path.read_text(encoding="utf-8"))


def test_every_run_stands_behind_its_row_with_a_link(plain: Page):
    comparison = examples.depths_by_strategy()
    links = {attributes["href"] for attributes in plain.all("a")}
    for row in comparison.rows:
        for run in row.configuration.runs:
            assert comparison.links[run.run_id] in links
            assert run.run_id in plain.text
    assert len(plain.all("details")) == len(comparison.rows) + 2  # and pairs, and classes


def test_the_page_asks_nothing_of_the_network(plain: Page):
    sources = [attributes["src"] for tag, attributes in plain.found if "src" in attributes]
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert [attributes["href"] for attributes in plain.all("link")] == ["data:,"]
    policy = next(attributes["content"] for attributes in plain.all("meta") if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none';")


def test_each_plot_says_in_words_what_it_shows(plain: Page):
    plots = [attributes for attributes in plain.all("div") if attributes.get("class") == "plot"]
    assert len(plots) == 9
    assert all(plot["role"] == "img" and len(plot["aria-label"]) > 40 for plot in plots)
    assert all(attributes["alt"] for attributes in plain.all("img"))


def test_headings_go_down_in_order(plain: Page):
    levels = [int(tag[1]) for tag, _ in plain.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_nothing_from_outside_becomes_markup_or_script(tmp_path: Path):
    text = write_report(examples.hostile(), tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script>alert(1)" not in text
    assert examples.NASTY in page.text
    assert [attributes for attributes in page.all("script") if not attributes] == [{}, {}]  # plotly and ours
    assert page.all("b") == []
    assert "javascript:" not in "".join(attributes["href"] for attributes in page.all("a"))
    for figure in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, flags=re.DOTALL):
        assert set(json.loads(figure)) >= {"data", "layout"}


def test_images_that_are_there_become_thumbnails_and_others_are_named(tmp_path: Path):
    comparison = examples.with_images(examples.cost_only(), tmp_path)
    page = Page(write_report(comparison, tmp_path / "report").read_text(encoding="utf-8"))
    pictures = [each["src"] for each in page.all("img") if each["src"].startswith("data:image/jpeg")]
    sizes = [Image.open(BytesIO(base64.b64decode(picture.partition(",")[2]))).size for picture in pictures]
    assert sizes == [(48, 64), (132, 44), (44, 132)]
    assert page.text.count("no image here") == 3
    assert str(tmp_path / "broken.jpg") in page.text


def test_how_much_more_often_an_image_is_right_is_said_in_runs(tmp_path: Path):
    comparison = examples.cost_only()
    first, second, third = comparison.rows
    two = replace(third.configuration, runs=third.configuration.runs[:2])
    third = replace(third, configuration=two, values=third.values[:2])
    shown = [(0, 1, 1.0), (0, 1, 2 / 3), (1, 2, 1.0), (1, 2, 2 / 3)]
    images = [Disagreement(right, wrong, "", "s", "cat", "dog", margin) for right, wrong, margin in shown]
    comparison = replace(comparison, rows=(first, second, third), disagreements=tuple(images))
    page = Page(write_report(comparison, tmp_path).read_text(encoding="utf-8"))
    said = re.findall("cat, taken for dog: (.*)", page.text)
    assert said == [
        "right in 3 of 3 runs, and in 0 of 3",
        "right in 2 more runs (of 3 each)",
        "right in 3 of 3 runs, and in 0 of 2",
        "right in a share of its runs that is 67 points higher",
    ]
    names = [row.configuration.label.replace(".name", "") for row in comparison.rows]
    assert f"More often right in {names[0]} than in {names[1]}" in page.text


def test_a_file_is_shown_only_if_it_is_the_image_that_the_run_tested(tmp_path: Path):
    path = tmp_path / "private.jpg"
    Image.new("RGB", (20, 20), "red").save(path)
    digest = bytes_hash(path.read_bytes())
    assert thumbnail(str(path), digest) is not None
    assert thumbnail(str(path), "") is None  # kept by a version that recorded no digests, or by who does not know it
    assert thumbnail(str(path), "0" * 32) is None
    Image.new("RGB", (20, 20), "blue").save(path)
    assert thumbnail(str(path), digest) is None


def test_images_that_are_no_files_are_shown_by_their_source():
    from sklearn.datasets import load_digits

    found = thumbnail("", "", "digits", "digits/0233")
    assert found is not None
    shown = np.asarray(
        Image.open(BytesIO(base64.b64decode(found.partition(",")[2]))).resize((8, 8), Image.Resampling.BOX)
    )
    np.testing.assert_allclose(shown, load_digits().images[233] * 255 / 16, atol=12)  # as a JPEG
    assert thumbnail("", "", "digits", "digits/9999") is None
    assert thumbnail("", "", "folder", "a.jpg") is None
    assert thumbnail("", "", "no.such", "a.jpg") is None


# Not all examples: drawing takes seconds, and these have what may be missing.
@pytest.mark.parametrize(
    "example", [examples.single_run, examples.cost_only, examples.without_intervals, examples.nothing]
)
def test_a_page_holds_no_number_that_is_none(example, tmp_path: Path):
    comparison = example()
    page = Page(write_report(comparison, tmp_path).read_text(encoding="utf-8"))
    assert not re.search(r"\bnan\b|\bNone\b", page.text)
    for words in (*comparison.conclusion, *comparison.notes, comparison.command):
        assert words in page.text
    for each in comparison.grouping.excluded:
        assert each.run.run_id in page.text
        assert each.reason in page.text


def test_everything_is_written_and_all_numbers_are_in_the_json(tmp_path: Path):
    comparison = examples.without_intervals()
    folder = tmp_path / "comparisons" / "mine"
    paths = write_all(comparison, folder)
    assert paths[0] == folder / "report.html"
    assert {path.name for path in paths} >= {"table.csv", "table.md", "table.tex", "pairs.csv", "comparison.json"}
    assert all(path.stat().st_size for path in paths)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(paths)
    assert list(folder.parent.iterdir()) == [folder]
    kept = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert kept["rows"][0]["estimate"] == {
        "mean": comparison.rows[0].estimate.mean,
        "sd": None,
        "low": None,
        "high": None,
    }
    assert kept["rows"][0]["run_ids"] == [run.run_id for run in comparison.rows[0].configuration.runs]
    assert kept["pairs"][0]["difference"]["p_holm"] == comparison.pairs[0].difference.p_holm


def test_a_later_comparison_takes_the_place_of_an_earlier_one_and_leaves_other_files_alone(tmp_path: Path):
    write_all(examples.without_intervals(), tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    write_all(examples.single_run(), tmp_path)
    assert sorted(path.name for path in (tmp_path / "plots").glob("*.svg")) == [
        "configurations.svg",
        "learning_curves.svg",
    ]
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_page_and_pictures_that_cannot_be_made_cost_no_number(tmp_path: Path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no such font")

    monkeypatch.setattr(write_files, "write_pictures", fail)
    monkeypatch.setattr(write_files, "write_report", fail)
    names = [path.name for path in write_all(examples.single_run(), tmp_path)]
    assert names == ["table.csv", "pairs.csv", "table.md", "table.tex", "comparison.json"]
    assert "the report is left out: it could not be made (no such font)" in capsys.readouterr().out


def test_what_fails_half_way_leaves_the_earlier_files_and_nothing_else(tmp_path: Path, monkeypatch):
    folder = tmp_path / "out"
    write_all(examples.nothing(), folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(write_files, "write_tables", fail)
    with pytest.raises(OSError, match="disk full"):
        write_all(examples.single_run(), folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [folder]
