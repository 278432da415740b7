import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from thawlab.config import head_grid
from thawlab.config.job import config_hash, values
from thawlab.config.schema import ConfigError
from thawlab.launch import parsing, sweep_at_rest, sweep_resume
from thawlab.launch.compose import compose
from thawlab.launch.sweep_inputs import Inputs, InputsNow
from thawlab.launch.sweep_request import Asked
from thawlab.launch.sweep_resume import jobs_hash
from thawlab.tracking.past_sweeps import JOBS_TAG
from thawlab.tracking.run_record import PARENT_TAG, RunRecord
from thawlab.tracking.taken_over import naming

STORE: Any = SimpleNamespace(database=None)
NOW = {"dataset_digest": "d", "weights_digest": "w", "thawlab_version": "1.2.0"}


class Same(InputsNow):
    """Nothing has changed since the runs below were trained."""

    def of(self, config):
        return Inputs("d", "w", "1.3.1")


def find(store, experiment, resume, jobs, inputs=None, retry=False):
    return sweep_resume.find(store, experiment, Asked(resume, retry), jobs, inputs or Same(dict, "1.3.1"))


@pytest.fixture(scope="module")
def base():
    job = compose(["backbone=test_resnet", "backbone.pretrained=false"], "train.py")
    assert job is not None
    return values(job.config)


@pytest.fixture
def jobs(base):
    """Three jobs that differ in their seed."""
    return [(parsing.parse({**base, "seed": seed}),) for seed in (0, 1, 2)]


@pytest.fixture
def past(monkeypatch, tmp_path):
    """Puts sweeps, the latest first, and the jobs of the latest into the place of those of a store."""

    def put(sweeps, jobs=(), others=()):
        monkeypatch.setattr("thawlab.tracking.past_sweeps.past_sweeps", lambda *_: sweeps)
        monkeypatch.setattr("thawlab.tracking.past_sweeps.past_jobs", lambda *_: list(jobs))
        monkeypatch.setattr("thawlab.tracking.past_sweeps.runs_with_settings", lambda *_: [*jobs, *others])
        monkeypatch.setattr("thawlab.tracking.dead_runs.close_lost", lambda *_: [])
        monkeypatch.setattr("thawlab.tracking.dead_runs.close_dead", lambda *_: [])
        monkeypatch.setattr(sweep_at_rest, "_PATIENCE", 0.0)

    return put


def sweep(folder, jobs, status="KILLED", alive: Any = False, run_id="a1", **tags):
    if folder.is_dir():
        (folder / "sweep.json").write_text(json.dumps({"parent_id": run_id}))
    own = {JOBS_TAG: jobs_hash(jobs), "sweep_id": "s1", "sweep_dir": str(folder), "overrides": "seed=0,1,2"}
    tags = {**own, "process": "here:7:1", **tags}
    return RunRecord(run_id, "", "1", status, 0, {}, {}, tags, "", alive=alive)


def ran(config, status, run_id, alive: Any = False, **tags):
    tags = {"config_hash": config_hash(config), "output_dir": f"outputs/{run_id}", PARENT_TAG: "a1", **NOW, **tags}
    metrics = {"test/acc": 0.5, "best/val_acc": 0.6}
    return RunRecord(run_id, "", "1", status, 1, {}, metrics, tags, "", ended=8, alive=alive)


def test_finished_jobs_are_taken_over_begun_ones_go_on_and_the_others_are_new(past, jobs, tmp_path):
    (first,), (second,), _ = jobs
    runs = [ran(first, "FINISHED", "f0"), ran(second, "FAILED", "k0"), ran(second, "KILLED", "k1")]
    past([sweep(tmp_path, jobs)], runs)
    found = find(STORE, "digits", "true", jobs)
    assert (found.run_id, found.folder, found.over) == ("a1", tmp_path, False)
    one, two, three = (found.progress.plan[number] for number in ("1", "2", "3"))
    assert (one["done"], one["run_id"], one["seconds"], one["metrics"]["test/acc"]) == (True, "f0", 7.0, 0.5)
    assert (two["again"], two["folder"]) == ({config_hash(second): "k1"}, "outputs/k1")  # the latest try
    assert "again" not in three or not three["again"]
    assert two["sister"] == three["sister"] == {"run_id": "f0", "weights": False}
    assert found.words == "1 of its runs are finished, 1 are gone on with"


@pytest.mark.parametrize("held", [None, "", "{}", '{"parent_id": "b2"}', '{"process": "here:7:1"}'])
def test_a_folder_that_the_store_names_and_that_is_not_the_sweeps_is_left_alone(past, jobs, tmp_path, held):
    past([sweep(tmp_path, jobs)], [ran(jobs[0][0], "KILLED", "k0")])
    (tmp_path / "sweep.json").unlink()
    if held is not None:
        (tmp_path / "sweep.json").write_text(held)
    found = find(STORE, "digits", "true", jobs)
    assert found.folder is None
    assert found.progress.plan["1"]["again"] == {config_hash(jobs[0][0]): "k0"}


def test_a_sweep_is_over_when_it_finished_with_all_its_jobs(past, jobs, tmp_path):
    done = [ran(config, "FINISHED", str(number)) for number, (config,) in enumerate(jobs)]
    compared = {"summary.conclusion": "seed=0 is best"}
    past([sweep(tmp_path, jobs, "FINISHED", **compared)], done)
    assert find(STORE, "digits", "true", jobs).over
    past([sweep(tmp_path, jobs, "FINISHED")], done)  # killed before it was compared
    assert not find(STORE, "digits", "true", jobs).over
    past([sweep(tmp_path, jobs, "FINISHED", **compared)], done[:2])  # one was deleted
    assert not find(STORE, "digits", "true", jobs).over
    past([sweep(tmp_path, jobs, "KILLED")], done)  # stopped while it was compared
    assert not find(STORE, "digits", "true", jobs).over


def test_a_job_that_is_there_twice_takes_one_run_for_each(past, jobs, tmp_path):
    twice = [jobs[0], jobs[0]]
    past([sweep(tmp_path, twice)], [ran(jobs[0][0], "FINISHED", "f0"), ran(jobs[0][0], "KILLED", "k0")])
    plan = find(STORE, "digits", "true", twice).progress.plan
    assert plan["1"]["run_id"] == "f0"
    assert list(plan["2"]["again"].values()) == ["k0"]


def test_a_sweep_with_more_values_is_a_new_one_with_what_was_done_before(past, jobs, base, tmp_path):
    more = [*jobs, (parsing.parse({**base, "seed": 3}),)]
    runs = [ran(config, "FINISHED", f"f{number}") for number, (config,) in enumerate(jobs)]
    past([sweep(tmp_path, jobs, "FINISHED")], runs)
    found = find(STORE, "digits", "true", more)
    assert (found.run_id, found.sweep_id, found.folder, found.over) == (None, None, None, False)
    assert found.progress.taken == ["f0", "f1", "f2"]
    assert [bool(part.get("done")) for part in found.progress.plan.values()] == [True, True, True, False]
    assert found.words == "3 of its runs are finished; runs taken over from before: 3"
    assert found.notes == []


def test_a_sweep_that_took_runs_over_is_over_when_the_others_are_done(past, jobs, tmp_path):
    (first,), (second,), (third,) = jobs
    elsewhere = [
        ran(first, "FINISHED", "f0", **{PARENT_TAG: "b2"}),
        ran(second, "FINISHED", "f1", **{PARENT_TAG: "b2"}),
    ]
    tags = {"summary.conclusion": "seed=0 is best", **naming(["f0", "f1"], {})}
    past([sweep(tmp_path, jobs, "FINISHED", **tags)], [ran(third, "FINISHED", "f2")], elsewhere)
    found = find(STORE, "digits", "true", jobs)
    assert (found.run_id, found.over, found.progress.taken) == ("a1", True, ["f0", "f1"])
    past([sweep(tmp_path, jobs, "FINISHED", **tags)], [ran(third, "FINISHED", "f2")], elsewhere[:1])  # one was deleted
    found = find(STORE, "digits", "true", jobs)
    assert (found.run_id, found.over, found.progress.taken) == ("a1", False, ["f0"])


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"dataset_digest": "other"}, "the images have changed since"),
        ({"weights_digest": "other"}, "the pretrained weights have changed since"),
        ({"thawlab_version": "0.9.0"}, r"thawlab has changed since \(0.9.0, now 1.3.1\)"),
        ({"thawlab_version": ""}, r"thawlab has changed since \(an unknown version, now 1.3.1\)"),
    ],
)
def test_what_has_changed_since_is_trained_anew_in_a_new_sweep_which_says_so(past, jobs, tmp_path, tags, why):
    runs = [ran(config, "FINISHED", f"f{number}", **tags) for number, (config,) in enumerate(jobs)]
    past([sweep(tmp_path, jobs, "FINISHED", **{"summary.conclusion": "…"})], runs)
    found = find(STORE, "digits", "true", jobs)
    assert (found.run_id, found.over, found.progress.taken, found.progress.done) == (None, False, [], 0)
    (note,) = found.notes
    assert re.fullmatch(rf"not taken over, since {why}: f0, f1, f2", note)
    with pytest.raises(ConfigError, match=f"resume=a1: {why} the run f0 of this sweep was trained; .*resume=true"):
        find(STORE, "digits", "a1", jobs)


def test_an_earlier_sweep_goes_on_where_the_latest_had_other_images(past, jobs, tmp_path):
    latest, earlier = sweep(tmp_path, jobs), sweep(tmp_path / "gone", jobs, run_id="b2", sweep_id="s2")
    old = ran(jobs[0][0], "FINISHED", "f0", **{PARENT_TAG: "b2"})
    past([latest, earlier], [], [old, ran(jobs[0][0], "FINISHED", "f1", dataset_digest="other")])
    found = find(STORE, "digits", "true", jobs)
    assert found.run_id == "b2"


def test_failed_jobs_are_tried_again_when_it_is_asked_for_alone(past, jobs, tmp_path):
    runs = [ran(jobs[0][0], "FINISHED", "f0"), ran(jobs[1][0], "FAILED", "x1")]
    past([sweep(tmp_path, jobs, "FAILED")], runs)
    found = find(STORE, "digits", "true", jobs)
    assert (found.progress.plan["2"]["failed"], found.progress.plan["2"]["run_id"]) == (True, "x1")
    assert found.words == "1 of its runs are finished, 1 failed before, which retry=failed tries again"
    found = find(STORE, "digits", "true", jobs, retry=True)
    assert found.progress.plan["2"]["again"] == {config_hash(jobs[1][0]): "x1"}
    assert found.words == "1 of its runs are finished, 1 are gone on with"


def test_jobs_that_another_sweep_is_at_work_on_are_not_trained_twice(past, jobs, tmp_path):
    past([sweep(tmp_path, jobs, "RUNNING", alive=True)], [ran(jobs[0][0], "RUNNING", "r0", alive=True)])
    with pytest.raises(ConfigError, match=r"resume=true: runs of these jobs are at work at this moment \(r0\)"):
        find(STORE, "digits", "true", jobs[:2])


def test_of_heads_that_were_trained_together_only_those_are_left_that_did_not_finish(past, base, tmp_path):
    strategy = {"name": "linear_probe", "solver": "sgd"}
    raw = {**base, "seed": [0, 1, 2]}
    job = compose(["strategy=linear_probe", "seed=[0,1,2]", "backbone.pretrained=false"], "train.py")
    assert job is not None, (strategy, raw)
    heads = [job.variants]
    past([sweep(tmp_path, heads)], [ran(heads[0][0], "FINISHED", "f0"), ran(heads[0][1], "KILLED", "k1")])
    part = find(STORE, "digits", "true", heads).progress.plan["1"]
    assert part["finished"] == [config_hash(heads[0][0])]
    assert part["again"] == {config_hash(heads[0][1]): "k1"}
    assert head_grid.varying(job.variants) == ("seed",)


def test_the_latest_of_two_sweeps_goes_on_unless_the_other_is_named(past, jobs, tmp_path):
    latest, earlier = sweep(tmp_path, jobs), sweep(tmp_path / "gone", jobs, run_id="b2", sweep_id="s2")
    past([latest, earlier])
    assert find(STORE, "digits", "true", jobs).run_id == "a1"
    for name in ("b2", "s2"):
        found = find(STORE, "digits", name, jobs)
        assert (found.run_id, found.folder) == ("b2", None)


@pytest.mark.parametrize(
    ("resume", "told"),
    [
        ("true", "has no sweep of these jobs; its latest one is a1 .`-m seed=0,1,2`.; give the settings"),
        ("a1", "that sweep has other jobs .`-m seed=0,1,2`."),
        ("c3", "has no such sweep; its latest one is a1"),
    ],
)
def test_a_sweep_that_was_changed_is_refused_with_the_command_it_had(past, jobs, tmp_path, resume, told):
    past([sweep(tmp_path, jobs)])
    with pytest.raises(ConfigError, match=f"resume={resume}: .*{told}"):
        find(STORE, "digits", resume, jobs[:2])


def test_without_any_sweep_there_is_nothing_to_go_on_with(past, jobs):
    past([])
    with pytest.raises(ConfigError, match="resume=true: experiment 'digits' has no sweep to go on with"):
        find(STORE, "digits", "true", jobs)


def test_what_is_at_work_is_refused_and_what_cannot_be_seen_goes_on_by_its_id_alone(past, jobs, tmp_path):
    past([sweep(tmp_path, jobs, "RUNNING", alive=True)])
    for resume in ("true", "a1"):
        with pytest.raises(ConfigError, match="is still at work, in process 7"):
            find(STORE, "digits", resume, jobs)
    past([sweep(tmp_path, jobs, "RUNNING", alive=None)])
    with pytest.raises(ConfigError, match=r"may still be at work on here.* resume=a1"):
        find(STORE, "digits", "true", jobs)
    assert find(STORE, "digits", "a1", jobs).run_id == "a1"
    past([sweep(tmp_path, jobs)], [ran(jobs[0][0], "RUNNING", "r0", alive=True)])
    with pytest.raises(ConfigError, match=r"still at work \(r0\)"):
        find(STORE, "digits", "true", jobs)
    past([sweep(tmp_path, jobs)], [ran(jobs[0][0], "RUNNING", "r0", alive=None)])
    with pytest.raises(ConfigError, match=r"on another machine .r0.* resume=a1"):
        find(STORE, "digits", "true", jobs)


def test_the_order_of_the_jobs_and_their_settings_make_a_sweep_not_where_they_run(jobs, base):
    elsewhere = [(parsing.parse({**base, "seed": seed, "experiment_name": "other"}),) for seed in (0, 1, 2)]
    assert jobs_hash(jobs) == jobs_hash(elsewhere)
    assert jobs_hash(jobs) != jobs_hash(jobs[::-1])
    assert jobs_hash(jobs) != jobs_hash(jobs[:2])
