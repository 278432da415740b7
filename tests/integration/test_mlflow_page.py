"""A sweep in MLflow's own page, as a user sees it in a browser."""

import re
from urllib.parse import unquote

import pytest
from processes import CHROMIUM, free_port, started

from thawlab.tracking.run import start_run
from thawlab.tracking.store import open_store
from thawlab.tracking.sweeps import end_parent, start_parent, sweep_note

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
expect = sync_api.expect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
SETTINGS = [("0", "0"), ("0", "1"), ("all", "0"), ("all", "1")]
SECONDS = 60_000  # milliseconds, for a busy machine


def write_sweep(store) -> None:
    """A parent with four children, two epochs each, as a sweep leaves them."""
    swept = {"freeze": ["0", "all"], "seed": ["0", "1"]}
    note = sweep_note("python train.py -m freeze=0,all seed=0,1", 4, swept)
    varied = {key: ",".join(values) for key, values in swept.items()}
    parent = start_parent(store, "digits", "sweep freeze=0,all seed=0,1", {"sweep_id": "s1"}, note, varied)
    rows = []
    for number, (freeze, seed) in enumerate(SETTINGS, 1):
        label = f"freeze={freeze} seed={seed}"
        params = {"freeze": freeze, "seed": seed, "backbone": {"name": "resnet18"}, "optimizer": {"lr": 0.002}}
        run = start_run(
            store, "digits", name=f"{label} {number}", params=params, tags={}, parent_id=parent.id, note=f"run {number}"
        )
        for epoch in range(2):
            run.log_metrics({"train/loss": 2.0 - epoch - 0.1 * number, "val/acc": 0.4 + 0.1 * epoch}, step=epoch)
        metrics = {"best/val_acc": 0.5 + number / 100, "test/acc": 0.6 + number / 100}
        run.log_metrics(metrics)
        run.end("FINISHED")
        rows.append({"number": number, "label": label, "status": "FINISHED", "seconds": 1.0, "run_id": run.id})
        rows[-1]["metrics"] = metrics
    end_parent(store, parent.id, "FINISHED", rows)


@pytest.fixture(scope="module")
def links(tmp_path_factory):
    """The links that `thawlab ui` prints of the experiment: to its runs, and to its charts."""
    folder = tmp_path_factory.mktemp("page")
    write_sweep(open_store(f"sqlite:///{folder}/mlruns/mlflow.db", folder / "mlruns"))
    command = ("-c", "from thawlab.cli.main import main; main()", "ui", "--port", str(free_port()))
    with started(command, folder, lambda output: "ready: http://127.0.0.1:" in output) as log:
        yield re.findall(r"http://127\.0\.0\.1:\d+/#/\S+", log.read_text())


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A visitor who has never been there; the page may not ask anything of another machine."""
    context = browser.new_context(viewport={"width": 1700, "height": 900})
    context.set_default_timeout(SECONDS)
    context.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
    page = context.new_page()
    yield page
    context.close()


def run_link(page, name: str):
    return page.get_by_role("link", name=re.compile(rf"^{re.escape(name)}"))


def test_the_table_shows_a_sweep_as_one_row_that_opens_and_its_runs_can_be_compared(page, links):
    page.goto(links[0])
    parent = run_link(page, "sweep freeze=0,all seed=0,1")
    expect(parent).to_be_visible(timeout=SECONDS)
    for column in ("test/acc", "best/val_acc"):
        expect(page.get_by_role("columnheader", name=column, exact=True).first).to_be_visible()
    assert run_link(page, "freeze=").count() == 0
    page.locator(".ag-row", has=parent).locator("[data-testid=expander-button], [role=button], button").first.click()
    for freeze, seed in SETTINGS:
        row = page.locator(".ag-row", has=run_link(page, f"freeze={freeze} seed={seed}"))
        expect(row).to_be_visible(timeout=SECONDS)
        row.locator(".ag-selection-checkbox input").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url("**/compare-runs?**")
    assert unquote(page.url).count('"') == 10  # four runs and their experiment
    expect(page.get_by_role("heading", name=re.compile("Comparing 4 Runs"))).to_be_visible(timeout=SECONDS)
    for freeze, seed in SETTINGS:
        expect(page.get_by_text(re.compile(f"^freeze={freeze} seed={seed}")).first).to_be_visible()


def test_the_charts_show_each_run_of_the_sweep(page, links):
    page.goto(links[1])
    for freeze, seed in SETTINGS:
        expect(run_link(page, f"freeze={freeze} seed={seed}")).to_be_visible(timeout=SECONDS)
    assert run_link(page, "sweep").count() == 0
    expect(page.get_by_text("test/acc", exact=True).first).to_be_visible()
    chart = page.locator(".js-plotly-plot").first
    expect(chart).to_be_visible(timeout=SECONDS)
    expect(chart.locator(".bars .point")).to_have_count(len(SETTINGS), timeout=SECONDS)


def test_the_parents_own_page_says_what_varied_and_what_came_out(page, links):
    page.goto(links[0])
    run_link(page, "sweep freeze=0,all seed=0,1").click()
    expect(page.get_by_text("4 runs, which differ in freeze 0, all; seed 0, 1")).to_be_visible(timeout=SECONDS)
    expect(page.get_by_role("cell", name="freeze=all seed=1")).to_be_visible()
    expect(page.get_by_role("cell", name="0.6400")).to_be_visible()
