"""What is left of each job of a sweep, given the runs that are there."""

from pathlib import Path

import pytest

from thawlab.config.job import config_hash, values
from thawlab.launch import parsing
from thawlab.launch.compose import compose
from thawlab.launch.sweep_inputs import Inputs
from thawlab.launch.sweep_progress import Rules, progress
from thawlab.tracking.run_record import PARENT_TAG, RunRecord

NOW = Inputs("images", "weights", "1.3.1")


@pytest.fixture(scope="module")
def base():
    job = compose(["strategy=linear_probe", "seed=[0,1]", "backbone=test_resnet"], "train.py")
    assert job is not None
    return values(job.variants[0])


@pytest.fixture
def seeds(base):
    """Configurations that differ in their seed."""
    return [parsing.parse({**base, "seed": seed}) for seed in range(4)]


class Runs:
    """Runs of a store, each begun after the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.all = folder, []

    def add(self, config, status, run_id, parent="earlier", alive=False, **tags):
        folder = self.folder / run_id
        folder.mkdir()
        (folder / "run_id").write_text(run_id)
        own = {"config_hash": config_hash(config), "output_dir": str(folder), "dataset_digest": "images"}
        own |= {"weights_digest": "weights", "thawlab_version": "1.0.0", **({PARENT_TAG: parent} if parent else {})}
        began = 1.0 + len(self.all)
        metrics = {"best/val_acc": 0.5 + len(self.all) / 100}
        self.all.append(RunRecord(run_id, "", "1", status, began, {}, metrics, {**own, **tags}, "", began + 7.0, alive))


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def left(jobs, runs, inputs=NOW, **rules):
    return progress(jobs, runs.all, Rules(**rules), lambda _: inputs)


def test_a_finished_run_of_any_sweep_or_of_none_stands_for_its_job(seeds, runs):
    runs.add(seeds[0], "FINISHED", "in a sweep")
    runs.add(seeds[1], "FINISHED", "alone", parent=None)
    found = left([(each,) for each in seeds[:3]], runs)
    assert (found.done, found.taken) == (2, ["in a sweep", "alone"])
    assert found.plan["1"] == {"done": True, "run_id": "in a sweep", "metrics": {"best/val_acc": 0.5}, "seconds": 7.0}
    assert found.plan["3"] == {"again": {}, "finished": [], "sister": {"run_id": "in a sweep", "weights": True}}


def test_of_several_finished_runs_the_sweeps_own_counts_else_the_latest(seeds, runs):
    for run_id, parent in (("earliest", "x"), ("own", "mine"), ("latest", "y")):
        runs.add(seeds[0], "FINISHED", run_id, parent)
    assert left([(seeds[0],)], runs).plan["1"]["run_id"] == "latest"
    found = left([(seeds[0],)], runs, own=frozenset({"own"}), parent_id="mine")
    assert (found.plan["1"]["run_id"], found.taken) == ("own", [])
    assert left([(seeds[0],)], runs, own=frozenset({"earliest"})).taken == ["earliest"]  # taken over before


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"dataset_digest": "others"}, "the images have changed since"),
        ({"weights_digest": "others"}, "the pretrained weights have changed since"),
        ({"thawlab_version": "2.0.0"}, "thawlab has changed since (2.0.0, now 1.3.1)"),
        ({"thawlab_version": "12.0"}, "thawlab has changed since (12.0, now 1.3.1)"),
    ],
)
def test_a_run_of_other_images_weights_or_major_version_stands_for_nothing(seeds, runs, tags, why):
    runs.add(seeds[0], "FINISHED", "f0", **tags)
    runs.add(seeds[1], "FAILED", "x1", **tags)
    runs.add(seeds[2], "KILLED", "k2", **tags)
    found = left([(each,) for each in seeds[:3]], runs)
    assert [part["again"] for part in found.plan.values()] == [{}, {}, {}]
    assert (found.done, found.failed, found.begun, found.taken) == (0, 0, 0, [])
    assert found.unfit == {why: ["f0"]}
    runs.add(seeds[0], "FINISHED", "f1")
    assert left([(seeds[0],)], runs).unfit == {}


def test_weights_that_the_seed_decides_are_not_asked_for(seeds, runs):
    runs.add(seeds[0], "FINISHED", "f0", weights_digest="of seed 0")
    assert left([(seeds[0],)], runs, Inputs("images", None, "1.0")).done == 1


def test_nothing_is_read_of_images_and_weights_where_no_run_could_stand_for_a_job(seeds, runs):
    runs.add(seeds[3], "FINISHED", "of another job")
    assert progress([(seeds[0],)], runs.all, Rules(), lambda _: pytest.fail("asked")).is_empty


def test_a_failed_run_is_tried_again_by_retry_alone_unless_it_was_begun_anew_since(seeds, runs):
    runs.add(seeds[0], "FAILED", "x0")
    runs.add(seeds[1], "FAILED", "x1")
    runs.add(seeds[1], "KILLED", "k1")
    jobs = [(seeds[0],), (seeds[1],)]
    found = left(jobs, runs)
    assert (found.failed, found.begun, found.taken) == (1, 1, ["x0"])
    assert (found.plan["1"]["failed"], found.plan["1"]["run_id"]) == (True, "x0")
    assert found.plan["2"]["again"] == {config_hash(seeds[1]): "k1"}
    found = left(jobs, runs, retry=True)
    assert found.plan["1"]["again"] == {config_hash(seeds[0]): "x0"}
    assert (found.failed, found.taken) == (0, [])


def test_two_equal_jobs_take_a_run_each(seeds, runs):
    runs.add(seeds[0], "FINISHED", "f0")
    found = left([(seeds[0],), (seeds[0],)], runs)
    assert [part.get("run_id") for part in found.plan.values()] == ["f0", None]
    assert found.plan["2"]["again"] == {}
    runs.add(seeds[0], "FINISHED", "f1")
    assert left([(seeds[0],), (seeds[0],)], runs).taken == ["f1", "f0"]


def test_an_interrupted_run_of_a_sweep_that_ended_goes_on_in_its_own_folder(seeds, runs):
    runs.add(seeds[0], "KILLED", "k0")
    part = left([(seeds[0],)], runs).plan["1"]
    assert (part["again"], part["folder"]) == ({config_hash(seeds[0]): "k0"}, str(runs.folder / "k0"))


@pytest.mark.parametrize("case", ["at work", "no folder", "of no sweep", "on another machine", "a head"])
def test_an_interrupted_run_that_may_be_anothers_is_not_gone_on_with(seeds, runs, case):
    runs.add(seeds[0], "KILLED", "k0", parent=None if case == "of no sweep" else "earlier")
    job = (seeds[0], seeds[1]) if case == "a head" else (seeds[0],)
    if case == "no folder":
        (runs.folder / "k0" / "run_id").unlink()
    if case == "on another machine":
        runs.all.clear()
        runs.add(seeds[0], "RUNNING", "r0", alive=None)
    at_work = frozenset({"earlier"} if case == "at work" else ())
    assert left([job], runs, at_work=at_work).plan["1"] == {"again": {}, "finished": []}


def test_a_run_at_work_is_named(seeds, runs):
    runs.add(seeds[0], "RUNNING", "r0", alive=True)
    assert left([(seeds[0],)], runs).busy == ["r0"]
    runs.add(seeds[0], "FINISHED", "f0")
    assert left([(seeds[0],)], runs).busy == []


def test_of_heads_that_are_trained_together_each_counts(seeds, runs):
    names = [config_hash(each) for each in seeds]
    runs.add(seeds[0], "FINISHED", "f0")
    runs.add(seeds[1], "FAILED", "x1")
    runs.add(seeds[2], "KILLED", "k2", parent="mine")
    found = left([tuple(seeds)], runs, own=frozenset({"k2"}), parent_id="mine")
    assert found.plan["1"] == {"again": {names[2]: "k2"}, "finished": names[:2], "failed_heads": 1}
    assert (found.taken, found.failed, found.done) == (["f0", "x1"], 1, 0)
    found = left([tuple(seeds)], runs, own=frozenset({"k2"}), parent_id="mine", retry=True)
    assert found.plan["1"] == {"again": {names[2]: "k2"}, "finished": names[:1]}
    found = left([tuple(seeds[:2])], runs)
    assert (found.plan["1"]["failed"], found.plan["1"]["run_id"]) == (True, "f0")
    runs.add(seeds[1], "FINISHED", "f1")
    found = left([tuple(seeds[:2])], runs)
    assert (found.plan["1"]["done"], found.plan["1"]["run_id"]) == (True, "f1")  # the better one
