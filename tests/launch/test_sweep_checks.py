import pytest

from thawlab.config.schema import ConfigError
from thawlab.launch import sweep_plan
from thawlab.launch.compose import compose
from thawlab.launch.sweep_checks import Checking, answers, begin, questions


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def configs(*jobs: str):
    made = [compose(["backbone=test_resnet", *job.split()], "train.py") for job in jobs]
    return [job.config for job in made if job]


def test_nothing_is_asked_where_every_network_has_the_depth():
    jobs = configs("freeze=0", "freeze=all transfer=none", "freeze=0.5")
    assert questions(jobs) == []
    assert begin(jobs) == Checking(None)
    begin(jobs).finish()


def test_each_network_is_asked_once_for_all_that_its_jobs_want():
    jobs = configs("freeze=99", "freeze=layer9", "freeze=1", "freeze=99 seed=1", "cache.prefill=[1,77]")
    (asked,) = questions(jobs)
    assert asked == {
        "backbone": "test_resnet",
        "image_size": None,
        "depths": {"freeze": [99, "layer9", 1], "transfer": [], "cache.prefill": [1, 77]},
    }
    told = list(answers([asked]))
    assert [each.partition(":")[0] for each in told] == ["freeze=99", "freeze=layer9", "cache.prefill=77"]
    assert all("this backbone has 4 stages" in each for each in told)


def test_a_size_that_does_not_fit_is_told_beside_the_depths():
    jobs = configs("backbone=test_vit image_size=60 freeze=99", "freeze=1")
    told = list(answers(questions(jobs)))
    assert told[0] == "image_size=60: test_vit cuts images into patches of 16 pixels; use 48 or 64"
    assert told[1].startswith("freeze=99: ")
    assert told[1].endswith("(backbone=test_vit)")
    assert len(told) == 2


def test_the_answers_come_from_a_process_beside():
    with pytest.raises(ConfigError, match="freeze=99: this backbone has 4 stages"):
        begin(configs("freeze=99")).finish()


def test_values_that_stand_for_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"seed=range\(3,0\): stands for no value at all"):
        sweep_plan.expand(["freeze=0,1", "seed=range(3,0)"], {})
