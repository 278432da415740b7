from dataclasses import replace

import pytest

from thawlab.config.job import Job
from thawlab.config.schema import ConfigError
from thawlab.launch import process, sweep_jobs
from thawlab.launch.compose import compose


@pytest.fixture
def job(tmp_path, monkeypatch) -> Job:
    monkeypatch.chdir(tmp_path)
    found = compose(["hydra.run.dir=mine"], "train.py")
    assert found is not None
    return replace(found, output_dir=tmp_path / "mine")


@pytest.mark.parametrize("resume_id", [None, "a1"])
def test_nothing_is_trained_among_the_files_of_another_run(job, resume_id):
    (job.output_dir / "checkpoints").mkdir(parents=True)
    for owner, name in ((None, "another run"), ("b2", "the run b2")):
        if owner:
            (job.output_dir / "run_id").write_text(owner)
        with (
            pytest.raises(ConfigError, match=f"holds the files of {name}"),
            process._own_folder(replace(job, resume_id=resume_id)),
        ):
            raise AssertionError
    (job.output_dir / "run_id").write_text("a1")
    with process._own_folder(replace(job, resume_id="a1")):
        pass


def test_a_sweep_goes_on_with_a_run_where_its_files_are_and_nowhere_else(job, tmp_path):
    part = {"again": {"hash": "a1"}, "folder": str(tmp_path / "elsewhere")}
    planned = sweep_jobs._planned(replace(job, sweep={"number": 1}), part)
    assert (planned.resume_id, planned.output_dir) == ("a1", job.output_dir)
    for owner, folder in (("b2", job.output_dir), ("a1", tmp_path / "elsewhere")):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        (tmp_path / "elsewhere" / "run_id").write_text(owner)
        assert sweep_jobs._planned(replace(job, sweep={"number": 1}), part).output_dir == folder
    (tmp_path / "elsewhere" / "run_id").write_text("b2")
    (job.output_dir).mkdir(exist_ok=True)
    (job.output_dir / "run_id").write_text("c3")
    assert sweep_jobs._planned(replace(job, sweep={"number": 1}), part).output_dir == tmp_path / "mine_2"
