from thawlab.cli.rerun import _notes
from thawlab.tracking.run_record import RunRecord
from without_hydra import configured


def noted(*words: str) -> list[str]:
    return _notes(RunRecord("a", "", "1", "FINISHED", 0, {}, {}, {}, ""), configured(), configured(*words))


def test_before_a_run_is_repeated_nothing_is_said_of_where_it_is_computed_and_recorded():
    assert noted("trainer.workers=2", "cache.dir=elsewhere", "tracking.root=there", "experiment_name=mine") == []


def test_before_a_run_is_repeated_only_the_settings_that_the_result_depends_on_are_named():
    assert noted("trainer.workers=2", "cache.max_gb=1", "freeze=4", "optimizer.lr=0.1") == [
        "not the same settings, so that the result may differ: optimizer.lr=0.1 (was 0.002), freeze=4 (was 0)"
    ]
