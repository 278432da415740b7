"""The page in a browser: the system's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import examples
import pytest

from thawlab.compare.report.html import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

WIDE = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    images = folder / "images"
    images.mkdir()
    comparisons = {
        "depths": examples.with_images(examples.depths_by_strategy(), images),
        "hostile": examples.hostile(),
        "single": examples.single_run(),
        "classes": replace(examples.depth_sweep(), classes=tuple("01234")),
        "crowd": examples.close_together(),
    }
    return {name: write_report(each, folder / name) for name, each in comparisons.items()}


class Opened:
    """A page, and all that went wrong while it was opened."""

    def __init__(self, browser: Any, report: Path, settings: dict[str, Any]) -> None:
        self.wrong: list[str] = []
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog {dialog.message}"))
        self.page.on("requestfailed", lambda request: self.wrong.append(f"failed {request.url[:200]}"))
        self.page.on("request", self._check)
        self.page.goto(report.as_uri())
        self.page.wait_for_function("[...document.querySelectorAll('.plot')].every((each) => each._fullLayout)")
        self.page.wait_for_timeout(300)

    def _check(self, request: Any) -> None:
        if request.url.split(":")[0] not in ("file", "data", "blob"):
            self.wrong.append(f"asked for {request.url}")

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("depths", WIDE),
        ("depths", PHONE),
        ("depths", {**WIDE, "color_scheme": "dark"}),
        ("hostile", PHONE),
        ("single", PHONE),
    ],
    ids=["wide", "phone", "dark", "hostile", "single"],
)
def test_the_page_opens_without_an_error_or_a_request_and_draws_every_plot(browser, reports, name, settings):
    with Opened(browser, reports[name], settings) as opened:
        drawn = opened.page.evaluate(
            "[...document.querySelectorAll('.plot')].map((each) => [each.id, each.data.length,"
            " each.querySelectorAll('.trace, .hm, .parcoords').length, each.getBoundingClientRect().height])"
        )
        assert drawn
        assert all(traces and shapes and height > 150 for _, traces, shapes, height in drawn), drawn
        width = opened.page.evaluate("document.documentElement.scrollWidth")
        assert width <= settings["viewport"]["width"]
        assert opened.wrong == []


@pytest.mark.parametrize("settings", [WIDE, PHONE], ids=["wide", "phone"])
def test_no_number_lies_on_another_in_the_plots_of_costs(browser, reports, settings):
    with Opened(browser, reports["crowd"], settings) as opened:
        plots = opened.page.evaluate(
            "[...document.querySelectorAll('[id^=plot-pareto]')].map((plot) => [...plot.querySelectorAll('.textpoint')]"
            ".map((each) => each.getBoundingClientRect()).map((box) => [box.left, box.right, box.top, box.bottom]))"
        )
        assert [len(boxes) > 5 for boxes in plots] == [True, True, True]
        # The boxes of lines are higher than their digits.
        for one, other in (pair for boxes in plots for pair in combinations(boxes, 2)):
            across, down = (min(one[at + 1], other[at + 1]) - max(one[at], other[at]) for at in (0, 2))
            assert across <= 1 or down <= 4, (one, other)


def test_a_table_of_eight_configurations_fits_and_one_that_goes_on_says_so(browser, reports):
    table = ".scroll:has(> table.named)"
    goes_on = f"(({{scrollWidth, clientWidth}}) => scrollWidth > clientWidth)(document.querySelector('{table}'))"
    with Opened(browser, reports["classes"], {"viewport": {"width": 1200, "height": 900}}) as opened:
        assert not opened.page.evaluate(goes_on)
    with Opened(browser, reports["classes"], PHONE) as opened:
        assert opened.page.evaluate(goes_on)
        shadows = f"getComputedStyle(document.querySelector('{table}')).backgroundAttachment"
        assert (
            opened.page.evaluate(shadows) == "local, local, scroll, scroll"
        )  # those that scroll are covered at the ends


def test_runs_unfold_and_link_to_their_pages(browser, reports):
    comparison = examples.depths_by_strategy()
    run = comparison.rows[0].configuration.runs[0].run_id
    with Opened(browser, reports["depths"], PHONE) as opened:
        link = opened.page.locator(f"a:has-text('{run}')").first
        assert not link.is_visible()
        opened.page.locator("tr.runs summary").first.click()
        assert link.is_visible()
        assert link.get_attribute("href") == comparison.links[run]


def test_the_menu_shows_another_confusion(browser, reports):
    with Opened(browser, reports["depths"], WIDE) as opened:
        menu = opened.page.locator("select[data-plot=confusion_differences]")
        menu.select_option("2")
        opened.page.wait_for_timeout(300)
        seen = opened.page.evaluate(
            "document.getElementById('plot-confusion_differences').data.map((each) => each.visible)"
        )
        assert seen == [place == 2 for place in range(8)]


def test_text_on_plots_follows_the_colour_scheme(browser, reports):
    with Opened(browser, reports["depths"], WIDE) as opened:
        colour = "document.querySelector('.plot').layout.font.color"
        light = opened.page.evaluate(colour)
        opened.page.emulate_media(color_scheme="dark")
        opened.page.wait_for_function(f"{colour} !== '{light}'")
        assert opened.wrong == []


def test_on_paper_pictures_stand_in_for_the_plots_and_runs_are_unfolded(browser, reports):
    with Opened(browser, reports["depths"], WIDE) as opened:
        opened.page.emulate_media(media="print")
        assert opened.page.locator(".plot:visible, select:visible").count() == 0
        pictures = opened.page.locator("img.static")
        assert pictures.count() == 9
        for place in range(9):
            assert pictures.nth(place).evaluate("(image) => image.complete && image.naturalWidth > 100")
            assert pictures.nth(place).is_visible()
        assert opened.page.pdf(format="A4").startswith(b"%PDF")


def test_every_thumbnail_is_shown(browser, reports):
    with Opened(browser, reports["depths"], PHONE) as opened:
        widths = opened.page.locator(".images img").evaluate_all("(all) => all.map((each) => each.naturalWidth)")
        assert widths == [48, 132, 44]
