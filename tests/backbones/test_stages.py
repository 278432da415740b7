"""What the ruler says of well-known architectures, and what it refuses."""

from collections.abc import Callable

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import timm
import torch
from torch import nn

from thawlab.backbones.stages import Stage, head_parameters, stages


def on_meta(name: str, **settings) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, num_classes=7, **settings)


def children(parameters: tuple[str, ...], depth: int = 1) -> list[str]:
    """The modules, or parameters, at `depth` that the names lie in, each once, in order."""
    return list(dict.fromkeys(".".join(name.split(".")[:depth]) for name in parameters))


def blocks(path: str, count: int) -> list[str]:
    return [f"{path}.{index}" for index in range(count)]


LAYERS = ["layer1", "layer2", "layer3", "layer4"]
VIT_STEM = ["cls_token", "pos_embed", "patch_embed"]
INCEPTION = ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]

# architecture: (what the stem holds, stages 1…K, what stage K holds)
WELL_KNOWN = {
    "resnet18": (["conv1", "bn1"], LAYERS, ["layer4"]),
    "resnet50": (["conv1", "bn1"], LAYERS, ["layer4"]),
    "tf_efficientnet_lite0": (["conv_stem", "bn1"], blocks("blocks", 7), ["blocks", "conv_head", "bn2"]),
    "mobilenetv3_large_100": (["conv_stem", "bn1"], blocks("blocks", 7), ["blocks", "conv_head"]),
    "convnext_tiny": (["stem"], blocks("stages", 4), ["stages", "head"]),
    "vit_small_patch16_224": (VIT_STEM, blocks("blocks", 12), ["blocks", "norm"]),
    "vit_base_patch16_siglip_224": (
        ["pos_embed", "patch_embed"],
        blocks("blocks", 12),
        ["blocks", "norm", "attn_pool"],
    ),
    "deit_tiny_distilled_patch16_224": (
        ["cls_token", "pos_embed", "dist_token", "patch_embed"],
        blocks("blocks", 12),
        ["blocks", "norm"],
    ),
    "beit_base_patch16_224": (["cls_token", "patch_embed"], blocks("blocks", 12), ["blocks", "fc_norm"]),
    "naflexvit_base_patch16_gap": (["embeds"], blocks("blocks", 12), ["blocks", "fc_norm"]),
    "hiera_tiny_224": (["pos_embed", "patch_embed"], blocks("blocks", 12), ["blocks", "head"]),
    "swin_tiny_patch4_window7_224": (["patch_embed"], blocks("layers", 4), ["layers", "norm"]),
    "maxvit_tiny_rw_224": (["stem"], blocks("stages", 4), ["stages", "norm"]),
    "regnety_002": (["stem"], ["s1", "s2", "s3", "s4"], ["s4"]),
    "dla34": (["base_layer"], [f"level{level}" for level in range(6)], ["level5"]),
    "inception_v3": (
        ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"],
        ["Conv2d_4a_3x3", *(f"Mixed_{module}" for module in INCEPTION)],
        ["Mixed_7c"],
    ),
    "legacy_xception": (
        ["conv1", "bn1", "conv2", "bn2"],
        [f"block{index}" for index in range(1, 13)],
        ["block12", "conv3", "bn3", "conv4", "bn4"],
    ),
    "cait_xxs24_224": (
        ["pos_embed", "patch_embed"],
        [*blocks("blocks", 24), *blocks("blocks_token_only", 2)],
        ["blocks_token_only", "norm"],
    ),
    "hrnet_w18_small": (
        ["conv1", "bn1", "conv2", "bn2"],
        ["layer1", "stage2", "stage3", "stage4"],
        ["stage4", "incre_modules", "downsamp_modules", "final_layer"],
    ),
    "poolformer_s12": (["stem"], blocks("stages", 4), ["stages", "head"]),
    "pit_ti_224": (["pos_embed", "cls_token", "patch_embed"], blocks("transformers", 3), ["transformers", "norm"]),
    "rdnet_tiny": (["stem"], blocks("dense_stages", 7), ["dense_stages", "head"]),
    "csatv2": (["stem_dct"], blocks("stages", 4), ["stages", "head"]),
    "vgg16": (
        [],
        ["features.2", "features.7", "features.14", "features.21", "features.28"],
        ["features", "pre_logits"],
    ),
}


@pytest.mark.parametrize("name", WELL_KNOWN)
def test_a_well_known_architecture_has_the_stages_an_expert_expects(name):
    stem, names, last = WELL_KNOWN[name]
    ruler = stages(on_meta(name))
    assert [stage.name for stage in ruler] == ["stem", *names]
    assert children(ruler[0].parameters) == stem
    assert children(ruler[-1].parameters) == last


def test_the_stem_and_first_stage_of_resnet18_parameter_by_parameter():
    ruler = stages(on_meta("resnet18"))
    assert ruler[0] == Stage("stem", ("conv1.weight", "bn1.weight", "bn1.bias"))
    block = ("conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias")
    assert ruler[1] == Stage("layer1", tuple(f"layer1.{index}.{name}" for index in (0, 1) for name in block))


def test_a_stage_of_vgg_is_the_convolutions_up_to_a_max_pooling():
    convolutions = [children(stage.parameters, 2) for stage in stages(on_meta("vgg16"))]
    assert convolutions == [
        [],
        ["features.0", "features.2"],
        ["features.5", "features.7"],
        ["features.10", "features.12", "features.14"],
        ["features.17", "features.19", "features.21"],
        ["features.24", "features.26", "features.28", "pre_logits.fc1", "pre_logits.fc2"],
    ]


def test_a_transition_of_densenet_and_hrnet_goes_with_the_stage_before_it():
    assert [children(stage.parameters, 2) for stage in stages(on_meta("densenet121"))] == [
        ["features.conv0", "features.norm0"],
        ["features.denseblock1", "features.transition1"],
        ["features.denseblock2", "features.transition2"],
        ["features.denseblock3", "features.transition3"],
        ["features.denseblock4", "features.norm5"],
    ]
    hrnet = stages(on_meta("hrnet_w18_small"))
    assert [children(stage.parameters) for stage in hrnet[1:4]] == [
        ["layer1", "transition1"],
        ["stage2", "transition2"],
        ["stage3", "transition3"],
    ]


def test_a_class_token_that_joins_late_is_in_the_stage_that_it_joins():
    for name, joins in {
        "cait_xxs24_224": "blocks_token_only.0",
        "xcit_nano_12_p16_224": "cls_attn_blocks.0",
        "volo_d1_224": "post_network.0",
        "convit_tiny": "blocks.10",
    }.items():
        assert [stage.name for stage in stages(on_meta(name)) if "cls_token" in stage.parameters] == [joins]


HEADS = {
    "resnet18": ["fc"],
    "convnext_tiny": ["head.fc"],
    "deit_tiny_distilled_patch16_224": ["head", "head_dist"],
    "volo_d1_224": ["aux_head", "head"],
    "crossvit_9_240": ["head.0", "head.1"],
    "efficientvim_m1": ["heads.0", "heads.1", "heads.2", "heads.3"],
}


@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_every_classifier_and_nothing_else(name):
    assert sorted({parameter.rpartition(".")[0] for parameter in head_parameters(on_meta(name))}) == HEADS[name]


def test_the_auxiliary_classifier_of_inception_v3_is_a_head_on_convolutions_of_the_stage_it_reads():
    model = on_meta("inception_v3", aux_logits=True)
    assert head_parameters(model) == ("AuxLogits.fc.weight", "AuxLogits.fc.bias", "fc.weight", "fc.bias")
    auxiliary = {stage.name: children(stage.parameters, 2)[-2:] for stage in stages(model) if stage.name == "Mixed_6e"}
    assert auxiliary == {"Mixed_6e": ["AuxLogits.conv0", "AuxLogits.conv1"]}


class Ungrouped(nn.Sequential):
    def get_classifier(self) -> nn.Module:
        return self[-1]


class GroupedByFunction(Ungrouped):
    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        return lambda name: 0


@pytest.mark.parametrize("family", [Ungrouped, GroupedByFunction])
def test_a_model_without_known_groups_is_refused_by_name(family):
    with pytest.raises(ValueError, match=f"backbone={family.__name__}: nothing tells its stages apart; use an"):
        stages(family(nn.Linear(3, 3), nn.Linear(3, 2)))


@pytest.mark.parametrize("rule", [stages, head_parameters])
def test_a_model_built_without_classes_is_refused_by_name(rule):
    with pytest.raises(ValueError, match=r"backbone=test_resnet: it has no classifier; use an .* num_classes of 1"):
        rule(timm.create_model("test_resnet", num_classes=0))
