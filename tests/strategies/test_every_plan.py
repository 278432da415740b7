"""What holds for the phases of every strategy, and for its module and its YAML."""

import re
import subprocess
import sys

import pytest
from fake_layers import HEAD, STRATEGIES, layers, planned, shipped

from thawlab.launch.parsing import keys
from thawlab.launch.search_path import conf_dir
from thawlab.strategies import contract

WHOLE = ("scratch", "transplant")  # these take no freeze depth
DEPTHS = [(name, frozen) for name in STRATEGIES for frozen in ((0,) if name in WHOLE else (0, 2, 3))]
LIMITS = {
    "backbone_lr_scale": (0.0, -1.0),
    "lr_scale": (0.0, -1.0),
    "probe_lr_scale": (0.0,),
    "unfreeze_lr_scale": (0.0,),
    "solver": ("newton",),
    "strengths": ([], [0.0], [1.0, -1.0]),
    "max_iterations": (0,),
    "probe_epochs": (0,),
    "freeze_epochs": (0,),
    "epochs_per_phase": (0,),
    "base_epochs": (0,),
    "lr_divisor": (0.9,),
    "decay": (0.0, 1.1),
    "slice": (1.0,),
    "stage": (-1, 0.5, True, None),
    "rank": (0,),
    "alpha": (-0.1,),
    "beta": (-0.1,),
    "dropout": (-0.1, 1.0),
    "targets": ("attention",),
    "dim": (0,),
    "scale": (0.0,),
    "attention": (1,),
    "attention_images": (0,),
    "eta": (-0.1,),
    "smallest": (0,),
    "probability": (-0.1, 1.1),
    "strength": (-0.1,),
    "temperature": (0.0,),
    "copied": ("thawed",),
    "source": ("random",),
}


def settings_of(name):
    return contract.STRATEGIES.load(name).Settings


@pytest.mark.parametrize(("name", "frozen"), DEPTHS)
@pytest.mark.parametrize("epochs", range(2, 13))
def test_the_epochs_of_the_phases_are_those_asked_for(name, frozen, epochs):
    stepped = {"solver": "gradient"} if name == "linear_probe" else {}  # solved for, it is one epoch whatever is asked
    phases = planned(name, epochs, layers(frozen=frozen), **stepped)
    assert sum(phase.epochs for phase in phases) == epochs
    assert all(phase.epochs == 1 for phase in phases if phase.logistic)


@pytest.mark.parametrize(("name", "frozen"), DEPTHS)
@pytest.mark.parametrize("epochs", [2, 5, 12])
def test_phases_train_the_head_and_what_lies_above_the_freeze_depth_each_parameter_once(name, frozen, epochs):
    given = layers(frozen=frozen)
    above = {name for part in (*given.trainable, *given.beside) for name in part.parameters}
    phases = planned(name, epochs, given)
    assert len({phase.name for phase in phases}) == len(phases)
    for phase in phases:
        names = [parameter for group in phase.groups for parameter in group.parameters]
        assert len(names) == len(set(names))
        assert {*HEAD} <= {*names} <= above | {*HEAD}
        assert re.fullmatch(r"[\w.]+", phase.name)
        assert len({group.name for group in phase.groups}) == len(phase.groups)
        assert all(group.parameters and group.lr_scale > 0 for group in phase.groups)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in (*WHOLE, "finetune", "linear_probe")])
def test_a_freeze_depth_that_leaves_the_head_alone_is_refused(name):
    message = f"^strategy={name}: the freeze depth leaves it no stage to train; .* use strategy=linear_probe"
    with pytest.raises(ValueError, match=message):
        planned(name, 5, layers(frozen=4))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_has_its_values_in_a_yaml_that_says_what_it_does(name):
    assert settings_of(name).model_validate(shipped(name)).name == name
    first, *rest = (conf_dir() / "strategy" / f"{name}.yaml").read_text().splitlines()
    assert first.startswith("# ")
    assert first.endswith(".")
    assert [line for line in rest if "#" not in line] in ([], [f"name: {name}"])


def test_every_yaml_has_its_strategy():
    assert sorted(path.stem for path in (conf_dir() / "strategy").glob("*.yaml")) == sorted(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_says_where_it_was_published(name):
    paper = contract.STRATEGIES.load(name).PAPER
    assert re.fullmatch(r"[\w ]+? (et al\. )?\d{4}, (arXiv:\d{4}\.\d{4,5}|NeurIPS)", paper)


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name in STRATEGIES for key in keys(settings_of(name)) if key != "name"]
)
def test_values_out_of_their_limits_are_refused(name, key):
    for value in LIMITS[key]:
        with pytest.raises(ValueError, match=key):
            settings_of(name).model_validate({**shipped(name), key: value})


def test_planning_loads_no_torch():
    program = (
        "import importlib, sys\n"
        f"for name in {STRATEGIES}: importlib.import_module('thawlab.strategies.' + name)\n"
        "print(*{'torch', 'timm', 'peft', 'sklearn', 'pytorch_lightning'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "\n"
