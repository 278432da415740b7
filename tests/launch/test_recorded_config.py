from thawlab.config.job import values
from thawlab.launch.recorded_config import completed
from without_hydra import configured


def test_a_recorded_configuration_gets_what_was_done_without_the_settings_that_it_lacks():
    today = values(configured("trainer.patience=3"))
    recorded = {key: value for key, value in today.items() if key != "label_smoothing"}
    lacking = ("select", "min_steps", "images_gb")
    recorded["trainer"] = {key: value for key, value in today["trainer"].items() if key not in lacking}
    recorded["backbone"] = {**today["backbone"], "name": "resnet10t"}  # of no file
    then = {"select": "acc", "min_steps": 0}  # images_gb as by default
    assert completed(recorded) == {
        **today,
        "backbone": recorded["backbone"],
        "trainer": {**today["trainer"], **then},
    }


def test_a_probe_recorded_before_there_was_a_choice_of_solvers_was_trained_by_steps():
    today = values(configured("strategy=linear_probe", "strategy.solver=gradient"))
    recorded = {**today, "strategy": {"name": "linear_probe", "lr_scale": 1.0}}
    assert completed(recorded) == today


def test_views_that_were_recorded_when_auto_was_one_for_each_pass_are_so_many_today():
    today = values(configured())
    cache = {key: value for key, value in today["cache"].items() if key != "compute"}
    assert completed({**today, "cache": cache})["cache"] == {**today["cache"], "views": "all"}
    assert completed({**today, "cache": {**cache, "views": 2}})["cache"] == {**today["cache"], "views": 2}
    assert completed(today) == today
