import pytest
import torch

from thawlab.backbones.outline import check_forward, outline, trained_size
from thawlab.backbones.stages import stages


def refused(name: str, size: int) -> str:
    with pytest.raises(ValueError, match="image_size=") as caught:
        check_forward(outline(name, size), name, size, trained_size(name))
    return str(caught.value)


def test_an_outline_has_the_stages_of_the_network_and_takes_no_memory():
    model = outline("vgg11")
    assert [stage.name for stage in stages(model)][-1] == "features.18"
    assert {parameter.device for parameter in model.parameters()} == {torch.device("meta")}


def test_sizes_that_patches_do_not_divide_are_refused_with_those_that_fit():
    assert refused("test_vit", 60) == "image_size=60: test_vit cuts images into patches of 16 pixels; use 48 or 64"
    assert refused("test_vit", 8) == "image_size=8: test_vit cuts images into patches of 16 pixels; use 16"


def test_sizes_that_are_too_small_are_refused_with_that_of_the_weights():
    assert refused("vgg11", 8).startswith("image_size=8: vgg11 cannot take images of this size (")
    assert refused("vgg11", 8).endswith("its weights were trained at 224")
    assert "cannot be built for it" in refused("maxvit_tiny_tf_224", 8)


def test_sizes_that_fit_pass_and_leave_the_mode_as_it_was():
    model = outline("test_vit", 64)
    check_forward(model, "test_vit", 64, trained_size("test_vit"))
    assert model.training


def test_a_name_that_timm_lacks_is_refused():
    with pytest.raises(ValueError, match="has no such weights"):
        outline("resnet18.no_such_tag")
