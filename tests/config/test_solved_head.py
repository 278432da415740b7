"""Which settings play no part where a head is solved for, and sweeps over them."""

from thawlab.config.solved_head import alike, is_solved
from without_hydra import configured

PROBE = "strategy=linear_probe"
STEPS = "strategy.solver=gradient"


def test_a_probe_is_solved_for_unless_one_asks_for_steps():
    assert is_solved(configured(PROBE))
    assert not is_solved(configured(PROBE, STEPS))
    assert not is_solved(configured("strategy=lp_ft"))


def test_a_sweep_of_solved_heads_over_what_plays_no_part_is_told_the_way_out():
    configs = [configured(PROBE, f"optimizer.lr={rate}") for rate in (0.01, 0.1)]
    assert list(alike(configs, {"optimizer.lr": ["0.01", "0.1"], "seed": ["0", "1"]})) == [
        "optimizer.lr=0.01,0.1: plays no part where the head is solved for, so that these jobs would come out the "
        "same; use strategy.solver=gradient, which trains it by steps, or leave it out"
    ]


def test_beside_what_takes_steps_such_a_setting_may_be_swept():
    varied = {"epochs": ["1", "2"], "strategy": ["linear_probe", "finetune"]}
    assert not list(alike([configured(PROBE), configured("strategy=finetune")], varied))
    assert not list(alike([configured(PROBE, STEPS)], {"epochs": ["1", "2"]}))
