"""The page about Python is true: its code runs, in this process, on tiny images, with fewer jobs in the sweep."""

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import thawlab
from thawlab.cli import main
from thawlab.launch import process, sweep_end, sweep_jobs

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
FAST = (
    "backbone=test_resnet",
    "backbone.pretrained=false",
    "image_size=32",
    "batch_size=8",
    "epochs=1",
    "augment=none",
)
FAST += (
    "trainer=cpu",
    "trainer.workers=0",
    "sweep.warm=false",
    "trainer.min_steps=0",
    "cache=off",
    "tracking.checkpoint=false",
)


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """The working folder has a folder photos: 16 images of noise in two classes, one brighter than the other."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 2), ("test", 2)):
        for level, name in enumerate(("dark", "bright")):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 120, (32, 32, 3)) + 120 * level
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "photos"


@pytest.fixture
def in_this_process(monkeypatch):
    """What would be started as a process is run here; the sweep is compared by the page alone."""

    def run(command: Sequence[str], environment=None, output=None) -> int:
        module, *words = command[command.index("-m") + 1 :]
        with monkeypatch.context() as patch:
            for key in {*os.environ, *(environment or {})} - {"PYTEST_CURRENT_TEST"}:
                value = (environment or os.environ).get(key)
                patch.delenv(key) if value is None else patch.setenv(key, value)
            if module == "thawlab":
                return main.train([*FAST, *words[1:]])
            return process.start(process.load_job(Path(words[0])))

    monkeypatch.setattr(process, "run_child", run)
    monkeypatch.setattr(sweep_jobs, "run_process", run)
    monkeypatch.setattr(sweep_end, "_compare", lambda *_: True)
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    text = PAGE.read_text(encoding="utf-8").replace('[0, 2, "all"]', '[0, "all"]').replace("range(3)", "[1]")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)


def test_the_code_of_the_page_runs(blocks, photos, in_this_process, capsys) -> None:
    known: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), known)
    result, results, heads, comparison = (known[name] for name in ("result", "results", "heads", "comparison"))
    assert isinstance(result, thawlab.Result)
    assert (result.status, result.config["freeze"], result.overrides[-1]) == ("FINISHED", 4, "freeze=4")
    frame = result.predictions()
    assert sorted(frame["label"]) == ["bright", "bright", "dark", "dark"]
    assert np.isclose((frame["label"] == frame["predicted"]).mean(), result.metrics["test/acc"])
    settings = [(run.config["freeze"], run.config["seed"], run.config["optimizer"]["lr"]) for run in results]
    assert settings == [(0, 1, 1e-3), ("all", 1, 1e-3)]
    assert {run.status for run in results} == {"FINISHED"}
    assert set(comparison.configurations["name"]) == {"freeze=0", "freeze=all"}
    metrics = {run.run_id: run.metrics["test/balanced_acc"] for run in results}
    found = [(row.n, row.mean, row.runs[0]) for row in comparison.configurations.itertuples()]
    assert found == [(1, pytest.approx(metrics[run_id]), run_id) for _, _, run_id in found]
    assert comparison.report.is_file()
    assert [head.config["optimizer"]["lr"] for head in heads] == [1e-3, 1e-2]
    assert "freeze=fourth" in capsys.readouterr().out.splitlines()[-1]
