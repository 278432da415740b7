import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from thawlab.config.job import Job, config_hash, flat, values
from thawlab.config.schema import ConfigError
from thawlab.launch import resume
from thawlab.launch.compose import compose
from thawlab.launch.resume import resolve
from thawlab.tracking.processes import this_process
from thawlab.tracking.run_record import RunRecord
from without_hydra import configured

ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def given(tmp_path, monkeypatch):
    """What is typed, with `resume` among it, as a job."""
    monkeypatch.chdir(tmp_path)

    def job(*arguments: str) -> Job:
        found = compose(list(arguments), "train.py")
        assert found is not None
        return found

    return job


@pytest.fixture
def past(tmp_path, monkeypatch):
    """A run that the store has, killed, with the default settings and `seed=3`; changed as told."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "run_id").write_text(ID)
    config = yaml.safe_dump(values(configured("seed=3")))
    run = RunRecord(ID, "a run", "1", "KILLED", 0, {}, {}, {"output_dir": str(kept)}, "", config=config)

    def have(**changes) -> RunRecord:
        found = replace(run, **changes)
        monkeypatch.setattr(resume, "open_store", lambda *_: None)
        monkeypatch.setattr(resume, "find_interrupted", lambda *_: ID)
        monkeypatch.setattr(resume, "read_run", lambda *_: found)
        return found

    return have


def refused(job: Job) -> str:
    with pytest.raises(ConfigError) as error:
        resolve(job)
    return str(error.value)


def asked(*words: str) -> Job:
    """What is typed beside `resume`, as a job."""
    return Job(configured(f"resume={ID}", *words), Path("outputs"), words)


def test_the_rest_of_a_run_is_computed_as_before_but_for_the_settings_that_are_given(past):
    started = configured("trainer=ddp", "trainer.devices=2", "trainer.precision=bf16", "trainer.select=loss")
    past(config=yaml.safe_dump(values(started)))

    def differing(*words: str) -> dict[str, object]:
        found, then = flat(values(resolve(asked(*words)).config)), flat(values(started))
        return {key: value for key, value in found.items() if value != then[key]}

    assert differing() == {}
    assert differing("trainer.workers=3") == {"trainer.workers": 3}
    computing = {"trainer.name": "cpu", "trainer.accelerator": "cpu", "trainer.devices": 1, "trainer.precision": 32}
    assert differing("trainer=cpu") == computing
    assert differing("trainer=cpu", "trainer.select=acc") == {**computing, "trainer.select": "acc"}


def test_a_run_goes_on_with_its_files_elsewhere_whatever_else_its_settings_are(past):
    past()
    found = resolve(asked("cache.dir=elsewhere", "cache.max_gb=1", "tracking.root=there")).config
    assert (found.cache.dir, found.cache.max_gb, found.tracking.root, found.seed) == ("elsewhere", 1.0, "there", 3)
    assert "cache.name=off (it has auto)" in refused(asked("cache=off"))


def test_what_is_given_anew_must_go_with_what_stays(past):
    past(config=yaml.safe_dump(values(configured("trainer.precision=16"))))
    assert refused(asked("trainer.accelerator=cpu")) == (
        "trainer.precision=16: half precision needs a GPU; use bf16 or 32 on the CPU"
    )


def test_a_run_that_a_process_here_is_at_work_on_is_refused_with_its_number(past):
    past(status="RUNNING", tags={"output_dir": ".", "process": this_process()})
    assert refused(asked()) == (
        f"resume={ID}: process {os.getpid()} on {os.uname().nodename} (this machine) is still at work on this run; "
        "wait for it, or end it"
    )


@pytest.mark.parametrize("config", [None, "", "]", "\0", "just words", "seed: 3\n"])
def test_settings_that_are_lost_or_damaged_are_taken_as_they_are_given_again(past, config):
    past(config=config)
    assert config_hash(resolve(asked("seed=3", "resume=true")).config) == config_hash(configured("seed=3"))
    said = refused(asked())
    assert said.startswith(f"resume={ID}: ")
    assert "start a new run" in said


def test_settings_of_another_version_are_told_as_such(past):
    run = past()
    assert run.config is not None
    past(config=run.config + "no_such_key: 1\n")
    said = refused(asked())
    assert said.startswith(f"resume={ID}: this version of thawlab does not take the settings that this run kept; ")
    assert "no_such_key" in said


def test_a_run_whose_folder_was_moved_goes_on_where_the_user_says_that_it_is(given, past, tmp_path):
    past(tags={"output_dir": "/nowhere"})
    assert refused(given(f"resume={ID}")).endswith(
        "its checkpoints were in /nowhere, which is not there; if they were moved, name their place by "
        "hydra.run.dir=FOLDER, else start a new run"
    )
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "run_id").write_text(ID)
    assert resolve(given(f"resume={ID}", f"hydra.run.dir={moved}")).output_dir == moved
    (moved / "run_id").write_text("another")
    assert "is not there" in refused(given(f"resume={ID}", f"hydra.run.dir={moved}"))


@pytest.mark.parametrize("owner", [None, "", "another", f"{ID}0"])
def test_a_folder_that_the_store_names_and_that_is_not_the_runs_is_refused(given, past, tmp_path, owner):
    run = past()
    file = tmp_path / "kept" / "run_id"
    file.unlink()
    if owner is not None:
        file.write_text(owner)
    for which in (ID, "true"):
        assert refused(given("seed=3", f"resume={which}")) == (
            f"resume={ID}: its checkpoints were in {run.tags['output_dir']}, which is not its folder (no file run_id "
            "with its id lies in it); if they were moved, name their place by hydra.run.dir=FOLDER, else start a "
            "new run"
        )


def test_a_run_that_was_killed_before_it_wrote_anything_begins_in_a_folder_of_its_own(given, past, tmp_path):
    past(config=None)
    (tmp_path / "kept" / "run_id").unlink()
    job = given("seed=3", "resume=true")
    assert resolve(job).output_dir == job.output_dir != tmp_path / "kept"
    (job.output_dir / "checkpoints").mkdir(parents=True)  # of another run
    assert "is not its folder" in refused(job)
