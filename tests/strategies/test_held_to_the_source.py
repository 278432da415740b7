"""Strategies that add to the loss what holds the network to its source: l2_sp, delta, bss, co_tuning, lwf."""

import pytest
from fake_layers import HEAD, SOURCE, STAGES, layers, planned, shipped

from thawlab.strategies.contract import STRATEGIES
from thawlab.strategies.phases import ParameterGroup, Phase

GROUPS = (*(ParameterGroup(stage.name, stage.parameters, 0.5) for stage in STAGES), ParameterGroup("head", HEAD, 1.0))


def settings(name, **changes):
    module = STRATEGIES.load(name)
    return module.Settings.model_validate({**shipped(name), **changes})


@pytest.mark.parametrize("name", ["l2_sp", "bss"])
def test_fine_tuning_with_a_term_of_the_same_name(name):
    assert planned(name, 5, layers(frozen=1)) == [Phase(name, 5, GROUPS[1:], regularisers=(settings(name),))]


def test_delta_measures_attention_with_a_head_that_was_solved_for():
    probe, tuning = planned("delta", 5, layers(frozen=1))
    assert (probe.name, probe.epochs, probe.parameters) == ("linear_probe", 1, {*HEAD})
    assert probe.logistic == settings("delta").logistic
    assert probe.regularisers == ()
    assert tuning == Phase("delta", 4, GROUPS[1:], regularisers=(settings("delta"),))


def test_delta_without_attention_needs_no_probe():
    plain = settings("delta", attention=False)
    assert planned("delta", 5, attention=False) == [Phase("delta", 5, GROUPS, regularisers=(plain,))]


@pytest.mark.parametrize("name", ["co_tuning", "lwf"])
@pytest.mark.parametrize("kept", [None, 4])
def test_the_source_s_classifier_is_trained_at_the_backbone_s_rate(name, kept):
    groups = (*GROUPS[2:-1], ParameterGroup("source_classifier", SOURCE.parameters, 0.5), GROUPS[-1])
    given = layers(frozen=2, kept=kept)
    assert planned(name, 5, given) == [Phase(name, 5, groups, regularisers=(settings(name),))]


@pytest.mark.parametrize("name", ["co_tuning", "lwf"])
def test_the_source_s_classifier_is_refused_on_stages_with_random_weights(name):
    message = (
        f"^strategy={name}: the source's classifier says nothing about stages with random weights; use transfer=all$"
    )
    with pytest.raises(ValueError, match=message):
        planned(name, 5, layers(kept=3))


@pytest.mark.parametrize("name", ["l2_sp", "delta"])
@pytest.mark.parametrize(("frozen", "kept"), [(0, 0), (2, 2), (3, 1)])
def test_there_is_nothing_to_hold_on_to_where_no_trained_stage_keeps_its_weights(name, frozen, kept):
    message = f"^strategy={name}: it holds on to weights of the source, and no stage above the freeze depth keeps any; "
    with pytest.raises(ValueError, match=message):
        planned(name, 5, layers(frozen=frozen, kept=kept))
    assert planned(name, 5, layers(frozen=frozen, kept=frozen + 1))
