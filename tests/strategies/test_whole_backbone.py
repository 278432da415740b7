"""Strategies of one phase that train whole stages: finetune, layer_decay, auto_rgn, scratch, stoch_norm."""

import pytest
from fake_layers import HEAD, STAGES, layers, planned, rates

from thawlab.backbones.stages import Stage
from thawlab.strategies.phases import ParameterGroup, Phase

GROUPS = (*(ParameterGroup(stage.name, stage.parameters, 0.5) for stage in STAGES), ParameterGroup("head", HEAD, 1.0))


@pytest.mark.parametrize("frozen", range(5))
def test_finetune_trains_the_head_and_every_stage_above_the_freeze_depth_in_one_phase(frozen):
    phases = planned("finetune", 7, layers(frozen=frozen))
    assert phases == [Phase("finetune", 7, GROUPS[frozen:])]
    below = {name for stage in STAGES[:frozen] for name in stage.parameters}
    everything = {name for stage in STAGES for name in stage.parameters} | {*HEAD}
    assert phases[0].parameters == everything - below


def test_finetune_makes_no_group_for_a_stem_without_parameters():
    (phase,) = planned("finetune", 1, layers(stages=(Stage("stem", ()), *STAGES[1:])))
    assert list(rates(phase)) == ["layer1", "layer2", "layer3", "head"]


def test_layer_decay_multiplies_the_rate_once_more_for_each_stage_below_the_head():
    (phase,) = planned("layer_decay", 7, decay=0.5)
    assert rates(phase) == {"stem": 0.0625, "layer1": 0.125, "layer2": 0.25, "layer3": 0.5, "head": 1.0}
    assert phase == Phase("layer_decay", 7, phase.groups)


def test_layer_decay_gives_a_stage_the_same_rate_at_every_freeze_depth():
    (phase,) = planned("layer_decay", 7, layers(frozen=2), decay=0.5)
    assert rates(phase) == {"layer2": 0.25, "layer3": 0.5, "head": 1.0}


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        (0, {"stem": 1 / 16, "layer1": 1 / 8, "layer2": 1 / 4, "layer3": 1 / 2, "head": 1.0}),
        (2, {"layer2": 1 / 16, "layer3": 1 / 4, "head": 1.0}),
    ],
)
def test_a_slice_spans_what_is_trained_in_equal_factors_and_replaces_the_decay(frozen, expected):
    (phase,) = planned("layer_decay", 7, layers(frozen=frozen), decay=0.9, slice=16.0)
    assert rates(phase) == expected


def test_auto_rgn_trains_all_with_the_stages_rates_scaled_by_relative_gradients():
    (phase,) = planned("auto_rgn", 4, layers(frozen=1), backbone_lr_scale=0.25)
    assert rates(phase) == {"layer1": 0.25, "layer2": 0.25, "layer3": 0.25, "head": 1.0}
    assert phase == Phase("auto_rgn", 4, phase.groups, rates="relative_gradients")


def test_scratch_draws_the_whole_backbone_anew_and_trains_all_at_one_rate():
    (phase,) = planned("scratch", 4)
    assert rates(phase) == {"stem": 1.0, "layer1": 1.0, "layer2": 1.0, "layer3": 1.0, "head": 1.0}
    assert phase == Phase("scratch", 4, phase.groups, draw=tuple(name for stage in STAGES for name in stage.parameters))


@pytest.mark.parametrize(("frozen", "shown"), [(1, "stem"), (3, "2")])
def test_scratch_refuses_to_freeze_random_weights(frozen, shown):
    message = f"freeze={shown}: strategy=scratch trains everything from random weights; use freeze=0"
    with pytest.raises(ValueError, match=f"^{message}$"):
        planned("scratch", 4, layers(frozen=frozen))


@pytest.mark.parametrize(("kept", "shown"), [(1, "stem"), (3, "2")])
def test_scratch_refuses_a_transfer_depth_that_it_would_ignore(kept, shown):
    with pytest.raises(ValueError, match=f"^transfer={shown}: strategy=scratch starts every stage from random"):
        planned("scratch", 4, layers(kept=kept))
    assert planned("scratch", 4, layers(kept=0)) == planned("scratch", 4)


def test_stoch_norm_trains_as_finetune_does():
    assert planned("stoch_norm", 7, layers(frozen=2)) == [Phase("stoch_norm", 7, GROUPS[2:])]
