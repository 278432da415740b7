import json
from types import SimpleNamespace

import pytest

from thawlab.config import head_grid
from thawlab.config.job import config_hash, values
from thawlab.config.schema import ConfigError
from thawlab.launch import parsing, sweep_resume
from thawlab.launch.compose import compose
from thawlab.launch.sweep_resume import find, jobs_hash, take_resume
from thawlab.tracking.past_sweeps import JOBS_TAG
from thawlab.tracking.run_record import RunRecord

STORE = SimpleNamespace(database=None)


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

    def put(sweeps, jobs=()):
        monkeypatch.setattr("thawlab.tracking.past_sweeps.past_sweeps", lambda *_: sweeps)
        monkeypatch.setattr("thawlab.tracking.past_sweeps.past_jobs", lambda *_: list(jobs))
        monkeypatch.setattr("thawlab.tracking.dead_runs.close_lost", lambda *_: [])
        monkeypatch.setattr("thawlab.tracking.dead_runs.close_dead", lambda *_: [])
        monkeypatch.setattr(sweep_resume, "_PATIENCE", 0.0)

    return put


def sweep(folder, jobs, status="KILLED", alive=False, run_id="a1", **tags):
    if folder.is_dir():
        (folder / "sweep.json").write_text(json.dumps({"parent_id": run_id}))
    own = {JOBS_TAG: jobs_hash(jobs), "sweep_id": "s1", "sweep_dir": str(folder), "overrides": "seed=0,1,2"}
    tags = {**own, "process": "here:7:1", **tags}
    return RunRecord(run_id, "", "1", status, 0, {}, {}, tags, "", alive=alive)


def ran(config, status, run_id, alive=False, **tags):
    tags = {"config_hash": config_hash(config), "output_dir": f"outputs/{run_id}", **tags}
    metrics = {"test/acc": 0.5, "best/val_acc": 0.6}
    return RunRecord(run_id, "", "1", status, 1, {}, metrics, tags, "", ended=8, alive=alive)


def test_finished_jobs_are_taken_over_begun_ones_go_on_and_the_others_are_new(past, jobs, tmp_path):
    (first,), (second,), _ = jobs
    runs = [ran(first, "FINISHED", "f0"), ran(second, "FAILED", "k0"), ran(second, "KILLED", "k1")]
    past([sweep(tmp_path, jobs)], runs)
    found = find(STORE, "digits", "true", jobs)
    assert (found.run_id, found.folder, found.over) == ("a1", tmp_path, False)
    one, two, three = (found.plan[number] for number in ("1", "2", "3"))
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
    assert found.plan["1"]["again"] == {config_hash(jobs[0][0]): "k0"}


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
    plan = find(STORE, "digits", "true", twice).plan
    assert plan["1"]["run_id"] == "f0"
    assert list(plan["2"]["again"].values()) == ["k0"]


def test_of_heads_that_were_trained_together_only_those_are_left_that_did_not_finish(past, base, tmp_path):
    strategy = {"name": "linear_probe", "solver": "sgd"}
    raw = {**base, "seed": [0, 1, 2]}
    job = compose(["strategy=linear_probe", "seed=[0,1,2]", "backbone.pretrained=false"], "train.py")
    assert job is not None, (strategy, raw)
    heads = [job.variants]
    past([sweep(tmp_path, heads)], [ran(heads[0][0], "FINISHED", "f0"), ran(heads[0][1], "KILLED", "k1")])
    part = find(STORE, "digits", "true", heads).plan["1"]
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


def test_resume_is_the_sweeps_and_the_same_for_all_jobs():
    assert take_resume([["seed=0", "resume=true"], ["seed=1", "resume=true"]]) == ([["seed=0"], ["seed=1"]], "true")
    assert take_resume([["seed=0", "resume=False"]]) == ([["seed=0"]], "")
    assert take_resume([["seed=0"]]) == ([["seed=0"]], "")
    assert take_resume([["resume='12e4'"]]) == ([[]], "12e4")
    with pytest.raises(ConfigError, match="resume=false,true: a sweep goes on as a whole"):
        take_resume([["resume=true"], ["resume=false"]])


def test_the_order_of_the_jobs_and_their_settings_make_a_sweep_not_where_they_run(jobs, base):
    elsewhere = [(parsing.parse({**base, "seed": seed, "experiment_name": "other"}),) for seed in (0, 1, 2)]
    assert jobs_hash(jobs) == jobs_hash(elsewhere)
    assert jobs_hash(jobs) != jobs_hash(jobs[::-1])
    assert jobs_hash(jobs) != jobs_hash(jobs[:2])
