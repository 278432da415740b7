"""Names for messages about one that does not exist."""

from thawlab.config.nearest import hint, nearest


def test_nearest_names_come_best_first_and_far_ones_not_at_all():
    assert nearest("resnet5", ["resnet50", "resnet18", "vgg16"])[0] == "resnet50"
    assert nearest("zzz", ["resnet50", "vgg16"]) == []
    assert len(nearest("resnet", [f"resnet{i}" for i in range(10)], count=3)) == 3


def test_a_hint_names_what_is_near_or_all_that_are_few_or_nothing():
    many = [f"x{i}" for i in range(31)]
    assert hint("lorra", ["lora", "bss"]) == "; nearest: lora"
    assert hint("zzz", ["lora", "bss"]) == "; choices: bss, lora"
    assert hint("zzz", many) == ""
