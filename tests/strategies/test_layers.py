"""What strategies are told of a network's layers."""

import pytest
from fake_layers import HEAD, LAYERS, STAGES


@pytest.mark.parametrize(
    ("parameters", "below"),
    [
        (("layer2.conv.weight", "layer3.norm.bias"), 2),
        (("bn1.bias", "layer3.norm.bias"), 0),
        (HEAD, len(STAGES)),
        ((), len(STAGES)),
    ],
)
def test_the_stages_below_some_parameters_are_those_before_the_first_that_holds_one_of_them(parameters, below):
    assert LAYERS.stages_below(parameters) == below
