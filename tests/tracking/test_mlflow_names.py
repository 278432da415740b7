import pytest
from mlflow.utils.validation import _validate_metric_name

from thawlab.tracking.mlflow_names import clean_key, clean_keys, flatten, shorten


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("train/loss", "train/loss"),
        ("lr/blocks.3", "lr/blocks.3"),
        ("acc@1", "acc_1"),
        ("+model[0]={x}", "_model_0___x_"),
        ("/abs//path/../x", "abs/path/x"),
        ("Äpfel/Öl", "Äpfel/Öl"),
        ("", "_"),
        ("..", "_"),
    ],
)
def test_every_key_becomes_a_name_that_mlflow_takes(key, name):
    assert clean_key(key) == name
    _validate_metric_name(name)


def test_a_long_key_stays_unique():
    one, two = clean_key("x" * 300 + "1"), clean_key("x" * 300 + "2")
    assert len(one) == len(two) == 250
    assert one != two


def test_two_keys_with_one_name_are_refused():
    assert clean_keys(["acc@1", "acc@5"]) == {"acc@1": "acc_1", "acc@5": "acc_5"}
    with pytest.raises(ValueError, match="acc=1: MLflow would store this name and acc@1 both as acc_1"):
        clean_keys(["acc@1", "acc=1"])


def test_settings_are_flat_and_written_as_a_user_types_them():
    config = {"freeze": 4, "backbone": {"name": "resnet50", "pretrained": True, "checkpoint": None}, "empty": {}}
    assert flatten({**config, "betas": [0.9, 0.999], "lr": 1e-3, "layers": [{"k": None}]}) == {
        "freeze": "4",
        "backbone.name": "resnet50",
        "backbone.pretrained": "true",
        "backbone.checkpoint": "null",
        "empty": "{}",
        "betas": "[0.9, 0.999]",
        "lr": "0.001",
        "layers": "[{k: null}]",
    }


def test_a_value_is_cut_at_the_limit_and_shows_it():
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"
