"""How a freeze depth is read off the stages of a backbone."""

import pytest

from thawlab.backbones.stages import Stage, depth_to_count


def blocks(path: str, count: int) -> list[str]:
    return [f"{path}.{index}" for index in range(count)]


RESNET = [Stage(name, (f"{name}.weight",)) for name in ("stem", "layer1", "layer2", "layer3", "layer4")]
LITE = [Stage(name, (f"{name}.weight",)) for name in ("stem", *blocks("blocks", 7))]


@pytest.mark.parametrize(
    ("freeze", "entries"),
    [
        *[(0, 0), (1, 2), (3, 4), (4, 5), ("none", 0), ("stem", 1), ("all", 5), ("layer1", 2), ("layer4", 5)],
        *[(0.0, 0), (0.1, 0), (0.125, 2), (0.25, 2), (0.5, 3), (0.63, 4), (1.0, 5)],
    ],
)
def test_a_freeze_depth_covers_the_stem_and_that_many_stages(freeze, entries):
    assert depth_to_count(freeze, RESNET) == entries


def test_a_share_rounds_halves_up_as_written():
    assert depth_to_count(0.5, LITE) == 5  # 3.5 stages → 4, and the stem
    fifty = [Stage("stem", ("a",)), *(Stage(name, (name,)) for name in blocks("blocks", 50))]
    assert depth_to_count(0.29, fifty) == 16  # 14.5 stages → 15, though 0.29 * 50 is 14.499999999999998


TAKES = "this backbone has 4 stages, so use 0 to 4, none, all, a share from 0.0 to 1.0, or one of " + ", ".join(
    stage.name for stage in RESNET
)


@pytest.mark.parametrize("freeze", [5, -1, 1.5, -0.1, float("nan"), True])
def test_a_depth_outside_the_backbone_is_refused_with_what_it_takes(freeze):
    with pytest.raises(ValueError, match="freeze=") as error:
        depth_to_count(freeze, RESNET)
    assert str(error.value) == f"freeze={freeze}: {TAKES}"


def test_a_misspelt_stage_is_refused_with_the_nearest_ones():
    with pytest.raises(ValueError, match="transfer=") as error:
        depth_to_count("leyer4", RESNET, key="transfer")
    assert str(error.value) == f"transfer=leyer4: {TAKES}; nearest: layer4, layer3, layer2"


def test_a_long_list_of_stages_is_shortened_in_the_message():
    with pytest.raises(ValueError, match=r"0 to 24, .* one of stem, blocks\.0, blocks\.1, …, blocks\.23; nearest: blo"):
        depth_to_count("block.9", [Stage("stem", ("a",)), *(Stage(name, (name,)) for name in blocks("blocks", 24))])


def test_freezing_the_stem_of_a_backbone_without_one_is_refused():
    ruler = [Stage("stem", ()), Stage("features.2", ("features.2.weight",))]
    with pytest.raises(
        ValueError, match=r"freeze=stem: this backbone has no stem; use 1 for its first stage, features\.2"
    ):
        depth_to_count("stem", ruler)
    assert depth_to_count(1, ruler) == 2
