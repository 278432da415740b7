"""The phases that each strategy makes of a freeze depth."""

import pytest

from thawlab.backbones.stages import Stage
from thawlab.strategies import finetune, linear_probe
from thawlab.strategies.phases import Layers, ParameterGroup, Phase

STAGES = (
    Stage("stem", ("conv1.weight", "bn1.weight")),
    Stage("layer1", ("layer1.weight",)),
    Stage("layer2", ("layer2.weight", "layer2.bias")),
)
HEAD = ("fc.weight", "fc.bias")
GROUPS = (
    ParameterGroup("stem", ("conv1.weight", "bn1.weight"), 0.5),
    ParameterGroup("layer1", ("layer1.weight",), 0.5),
    ParameterGroup("layer2", ("layer2.weight", "layer2.bias"), 0.5),
    ParameterGroup("head", HEAD, 1.0),
)


@pytest.mark.parametrize("frozen", range(4))
def test_finetune_trains_the_head_and_every_stage_above_the_freeze_depth_in_one_phase(frozen):
    settings = finetune.Settings(name="finetune", backbone_lr_scale=0.5)
    phases = finetune.phases(Layers(STAGES, HEAD, frozen), settings, 7)
    assert phases == [Phase("finetune", 7, GROUPS[frozen:])]
    below = {name for stage in STAGES[:frozen] for name in stage.parameters}
    everything = {name for stage in STAGES for name in stage.parameters} | {*HEAD}
    assert phases[0].parameters == everything - below


def test_finetune_makes_no_group_for_a_stem_without_parameters():
    layers = Layers((Stage("stem", ()), *STAGES[1:]), HEAD, 0)
    phases = finetune.phases(layers, finetune.Settings(name="finetune", backbone_lr_scale=0.5), 1)
    assert [group.name for group in phases[0].groups] == ["layer1", "layer2", "head"]


@pytest.mark.parametrize("frozen", range(4))
def test_linear_probe_trains_the_head_alone_at_every_freeze_depth(frozen):
    settings = linear_probe.Settings(name="linear_probe", lr_scale=2.0)
    phases = linear_probe.phases(Layers(STAGES, HEAD, frozen), settings, 3)
    assert phases == [Phase("linear_probe", 3, (ParameterGroup("head", HEAD, 2.0),))]
    assert phases[0].parameters == {*HEAD}


@pytest.mark.parametrize(
    ("settings", "values"),
    [(finetune.Settings, {"name": "finetune"}), (linear_probe.Settings, {"name": "linear_probe"})],
)
def test_rates_of_zero_or_less_are_refused(settings, values):
    key = next(name for name in settings.model_fields if name != "name")
    for scale in (0.0, -1.0):
        with pytest.raises(ValueError, match=key):
            settings.model_validate({**values, key: scale})
