"""Strategies of one phase that train a part of the stages: surgical, bitfit, norm_only, lora, adapter."""

import re

import pytest
from fake_layers import HEAD, LAYERS, STAGES, layers, planned, rates

from thawlab.backbones.stages import Stage
from thawlab.strategies import surgical
from thawlab.strategies.bitfit import is_bias
from thawlab.strategies.phases import ParameterGroup, Phase


@pytest.mark.parametrize(
    ("stage", "trained"),
    [
        (0, ["stem"]),
        ("stem", ["stem"]),
        (2, ["layer2"]),
        ("2", ["layer2"]),
        ("layer3", ["layer3"]),
        ("1:2", ["layer1", "layer2"]),
        ("layer2:layer3", ["layer2", "layer3"]),
        ("stem:1", ["stem", "layer1"]),
        ("auto", ["stem"]),  # its gradient is largest beside its weights
    ],
)
def test_surgical_trains_the_chosen_block_and_the_head(stage, trained):
    (phase,) = planned("surgical", 3, stage=stage)
    assert rates(phase) == dict.fromkeys(trained, 0.5) | {"head": 1.0}
    assert phase == Phase("surgical", 3, phase.groups)


def test_an_automatic_choice_leaves_frozen_stages_out():
    (phase,) = planned("surgical", 3, layers(frozen=1), stage="auto")
    assert list(rates(phase)) == ["layer2", "head"]


def test_gradients_are_measured_for_an_automatic_choice_only():
    values = {"name": "surgical", "lr_scale": 0.5}
    asks = [surgical.measures_gradients(surgical.Settings(**values, stage=stage)) for stage in ("auto", "stem", 1)]
    assert asks == [True, False, False]


@pytest.mark.parametrize(
    ("stage", "frozen", "message"),
    [
        (
            "layr3",
            0,
            "strategy.stage=layr3: this backbone has 3 stages, so use auto, 0 (the stem) to 3, a name, "
            "or a range such as 1:2; nearest: layer3",
        ),
        (4, 0, "strategy.stage=4: this backbone has 3 stages"),
        ("1:9", 0, "strategy.stage=1:9: this backbone has 3 stages"),
        (":2", 0, "strategy.stage=:2: this backbone has 3 stages"),
        ("1:2:3", 0, "strategy.stage=1:2:3: this backbone has 3 stages"),
        ("layer3:1", 0, "strategy.stage=layer3:1: a range goes from the input up; use 1:layer3"),
        (
            "1:3",
            2,
            "strategy.stage=1:3: the freeze depth holds everything up to layer1 fixed; use stages from layer2 on, "
            "or freeze fewer",
        ),
    ],
)
def test_surgical_says_which_stages_there_are(stage, frozen, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        planned("surgical", 3, layers(frozen=frozen), stage=stage)


def test_surgical_on_a_stem_that_is_not_there_names_the_first_stage():
    without = layers(stages=(Stage("stem", ()), *STAGES[1:]))
    with pytest.raises(ValueError, match=r"^strategy.stage=stem: this backbone has no stem; use 1, layer1$"):
        planned("surgical", 3, without, stage="stem")
    (phase,) = planned("surgical", 3, without, stage="0:1")
    assert list(rates(phase)) == ["layer1", "head"]


def test_bitfit_trains_the_biases_and_the_head_with_fixed_statistics():
    assert planned("bitfit", 3) == [
        Phase(
            "bitfit",
            3,
            (
                ParameterGroup("stem", ("bn1.bias",), 1.0),
                ParameterGroup("layer2", ("layer2.q_bias",), 1.0),
                ParameterGroup("layer3", ("layer3.norm.bias",), 1.0),
                ParameterGroup("head", HEAD, 1.0),
            ),
            batch_norm="eval",
        )
    ]


def test_a_bias_is_told_by_the_last_part_of_its_name():
    names = ["bias", "a.bias", "attn.v_bias", "attn.relative_position_bias_table", "bias.weight", "a.unbias"]
    assert [is_bias(name) for name in names] == [True, True, True, False, False, False]


def test_bitfit_refuses_stages_without_a_bias():
    bare = layers(stages=(*STAGES[:3], Stage("layer3", ("layer3.conv.weight",))), frozen=3)
    with pytest.raises(ValueError, match=r"^strategy=bitfit: no layer above the freeze depth has a bias; freeze fewer"):
        planned("bitfit", 3, bare)


def test_norm_only_trains_the_normalisation_layers_and_the_head_with_fixed_statistics():
    assert planned("norm_only", 3, lr_scale=0.25) == [
        Phase(
            "norm_only",
            3,
            (
                ParameterGroup("stem", ("bn1.weight", "bn1.bias"), 0.25),
                ParameterGroup("layer3", ("layer3.norm.bias",), 0.25),
                ParameterGroup("head", HEAD, 1.0),
            ),
            batch_norm="eval",
        )
    ]


def test_norm_only_refuses_stages_without_a_normalisation_layer():
    with pytest.raises(
        ValueError, match=r"^strategy=norm_only: there is no normalisation layer above the freeze depth"
    ):
        planned("norm_only", 3, layers(norms=frozenset({"bn1.weight"}), frozen=1))


@pytest.mark.parametrize("name", ["lora", "adapter"])
def test_what_an_extension_added_is_trained_beside_the_head_with_fixed_statistics(name):
    assert planned(name, 3, lr_scale=2.0) == [
        Phase(
            name,
            3,
            (
                ParameterGroup("layer1", ("layer1.conv.lora_A",), 2.0),
                ParameterGroup("layer2", ("layer2.conv.lora_A",), 2.0),
                ParameterGroup("head", HEAD, 1.0),
            ),
            batch_norm="eval",
        )
    ]


def test_the_stages_of_these_tests_hold_every_parameter_once():
    names = [name for stage in LAYERS.stages for name in stage.parameters]
    assert len(names) == len(set(names)) == 11
