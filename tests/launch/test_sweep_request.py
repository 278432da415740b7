import pytest

from thawlab.config.schema import ConfigError
from thawlab.launch.compose import compose
from thawlab.launch.sweep_request import Asked, take_resume


def test_resume_is_the_sweeps_and_the_same_for_all_jobs():
    both = [["seed=0", "resume=true"], ["seed=1", "resume=true"]]
    assert take_resume(both) == ([["seed=0"], ["seed=1"]], Asked("true"))
    assert take_resume([["seed=0", "resume=False"]]) == ([["seed=0"]], Asked(""))
    assert take_resume([["seed=0"]]) == ([["seed=0"]], Asked(""))
    assert take_resume([["resume='12e4'"]]) == ([[]], Asked("12e4"))
    with pytest.raises(ConfigError, match="resume=false,true: a sweep goes on as a whole"):
        take_resume([["resume=true"], ["resume=false"]])


def test_retry_goes_with_resume():
    assert take_resume([["seed=0", "resume=true", "retry=failed"]]) == ([["seed=0"]], Asked("true", retry=True))
    assert take_resume([["resume=true", "retry=null"]]) == ([[]], Asked("true"))
    with pytest.raises(ConfigError, match=r"retry=failed: only a sweep that goes on .* use resume=true retry=failed"):
        take_resume([["seed=0", "retry=failed"]])
    with pytest.raises(ConfigError, match="retry=all: use failed or null"):
        take_resume([["resume=true", "retry=all"]])
    with pytest.raises(ConfigError, match="retry=failed: a sweep goes on as a whole"):
        take_resume([["resume=true", "retry=failed"], ["resume=true", "retry=null"]])


def test_one_run_is_tried_again_by_resume_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"retry=failed: this is for a sweep .* use resume=true alone"):
        compose(["retry=failed"], "train.py")
