"""The pages of the studies are written from the store, and nothing else in them changes."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from compare.synthetic import add_predictions, add_sweep, fresh_store
from thawlab.tracking.store import open_store
from thawlab.tracking.sweeps import latest_studies

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))


def script(folder: Path):
    """The script, at work in another folder."""
    spec = importlib.util.spec_from_file_location("update", ROOT / "experiments" / "update.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HERE = folder / "experiments"
    return module


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "docs").mkdir()
    store = fresh_store(tmp_path / "mlruns")
    settings = [{"freeze": depth, "seed": seed} for depth in ("0", "4") for seed in range(2)]
    about = {"sweep_id": "s1"}
    parent, *children = add_sweep(store, settings, **about)
    store.client().set_tag(parent, "sweep_dir", "/s1")
    store.client().set_tag(parent, "overrides", "experiment=study\nepochs=3")
    for number, run_id in enumerate(children):
        add_predictions(store, run_id, 0.9 if number < 2 else 0.5, seed=number)
    return tmp_path


def test_results_are_put_between_the_markers_and_the_picture_beside_them(work, capsys):
    update = script(work)
    page = work / "experiments" / "study.md"
    page.write_text(f"# Question\n\n{update.START}\nTHE PAST\n{update.END}\n\nWhat it means.\n")
    assert update.main(["study", f"root={work / 'mlruns'}"]) == 0
    text = page.read_text()
    assert text.startswith("# Question\n\n")
    assert text.endswith("\n\nWhat it means.\n")
    assert "THE PAST" not in text
    assert "There is no clear best: freeze=0 leads with test/acc" in text
    assert "![test/acc of each configuration](../docs/study.png)" in text
    assert (work / "docs" / "study.png").read_bytes().startswith(b"\x89PNG")
    assert update.main([f"root={work / 'mlruns'}"]) == 0
    assert page.read_text() == text
    assert "written from sweep" in capsys.readouterr().out


def test_a_study_that_is_not_in_the_store_is_named(work, capsys):
    update = script(work)
    (work / "experiments" / "other.md").write_text(f"{update.START}\n{update.END}\n")
    assert update.main(["other", f"root={work / 'mlruns'}"]) == 1
    assert "error: other: no sweep of this study" in capsys.readouterr().err


def test_a_sweep_that_was_stopped_is_no_result_of_a_study(work, capsys):
    update = script(work)
    (work / "experiments" / "study.md").write_text(f"{update.START}\nTHE PAST\n{update.END}\n")
    store = open_store("", work / "mlruns")
    (parent,) = latest_studies(store).values()
    store.client().set_terminated(parent, "KILLED")
    assert update.main(["study", f"root={work / 'mlruns'}"]) == 1
    assert "no sweep of this study that went through" in capsys.readouterr().err
    assert "THE PAST" in (work / "experiments" / "study.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["metric=test/ece"], "metric=test/ece: a page shows all of its sweep; there are root=, uri= and sweep="),
        (["sweep=abc"], "sweep=abc: name the one page that it is for"),
        (["plain"], "plain: no page with a place for results; there are study"),
    ],
)
def test_what_cannot_be_updated_is_one_message(work, capsys, arguments, message):
    update = script(work)
    (work / "experiments" / "study.md").write_text(f"{update.START}\n{update.END}\n")
    (work / "experiments" / "plain.md").write_text("No results.\n")
    assert update.main([*arguments, f"root={work / 'mlruns'}"]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_says_its_question_and_its_command(study):
    lines = (ROOT / "experiments" / f"{study}.yaml").read_text().splitlines()
    assert lines[1].startswith("# Question: ")
    assert any(f"experiment={study}" in line for line in lines)
    assert yaml.safe_load("\n".join(lines))["hydra"]["mode"] == "MULTIRUN"
    page = ROOT / "experiments" / f"{study}.md"
    assert page.is_file(), "a study has its result beside it"
