"""Which parameter gets which rate and decay, and how the rate moves over the steps."""

import copy
import math
from collections.abc import Iterator

import pytest
import yaml

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn
from torch.optim import SGD, Optimizer

from small_fits import changed, small, state_of
from thawlab.backbones import freezing
from thawlab.backbones import stages as ruler
from thawlab.launch.search_path import conf_dir
from thawlab.strategies.phases import ParameterGroup, Schedule
from thawlab.training.optimizers import create_optimizer, create_schedule, parameter_groups


def names_in(model: nn.Module, group: dict) -> list[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for parameter in group["params"]]


def test_layers_of_equal_values_are_all_in_the_optimizer():
    model = nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4), nn.LayerNorm(4))
    groups = [ParameterGroup("stem", ("0.weight", "0.bias"), 0.1), ParameterGroup("head", ("2.weight", "2.bias"), 1.0)]
    freezing.train_only(model, ["0.weight", "0.bias", "2.weight", "2.bias"])
    made = parameter_groups(model, groups, 1.0, 0.05)
    assert [names_in(model, group) for group in made] == [["0.weight", "0.bias"], ["2.weight", "2.bias"]]


@pytest.mark.parametrize(
    ("trained", "groups", "named"),
    [
        (["0.weight", "1.weight"], [["0.weight"]], "1.weight"),  # an equal one is in a group; this one is not
        (["0.weight"], [["0.weight"], ["0.weight"]], "0.weight"),
        (["0.weight"], [["0.weight", "1.weight"]], "a frozen parameter"),
    ],
)
def test_every_trained_parameter_must_be_in_exactly_one_group(trained, groups, named):
    model = nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4))
    freezing.train_only(model, trained)
    made = [ParameterGroup(str(number), tuple(names), 1.0) for number, names in enumerate(groups)]
    with pytest.raises(RuntimeError, match=f"^not in exactly one optimizer group: {named}$"):
        parameter_groups(model, made, 1.0, 0.05)


def test_each_group_has_its_rate_and_no_decay_on_vectors():
    model = small("test_resnet")
    parts = {stage.name: stage.parameters for stage in ruler.stages(model)} | {"head": ruler.head_parameters(model)}
    groups = [ParameterGroup("layer4", parts["layer4"], 0.25), ParameterGroup("head", parts["head"], 1.0)]
    freezing.train_only(model, [*parts["layer4"], *parts["head"]])

    made = parameter_groups(model, groups, 0.02, 0.05)

    assert [(group["name"], group["lr"], group["weight_decay"]) for group in made] == [
        ("layer4", 0.005, 0.05),
        ("layer4 (no decay)", 0.005, 0.0),
        ("head", 0.02, 0.05),
        ("head (no decay)", 0.02, 0.0),
    ]
    by_name = dict(model.named_parameters())
    assert names_in(model, made[0]) == [name for name in parts["layer4"] if by_name[name].ndim > 1]
    assert names_in(model, made[1]) == [name for name in parts["layer4"] if by_name[name].ndim <= 1]
    assert [names_in(model, group) for group in made[2:]] == [["fc.weight"], ["fc.bias"]]


def test_what_the_architecture_names_gets_no_decay():
    model = small("test_vit")
    assert {"pos_embed", "cls_token"} <= set(model.no_weight_decay())
    names = tuple(name for name, _ in model.named_parameters())
    made = parameter_groups(model, [ParameterGroup("all", names, 1.0)], 1.0, 0.1)
    decayed, spared = [set(names_in(model, group)) for group in made]
    assert {"pos_embed", "cls_token"} <= spared
    assert decayed == {name for name, p in model.named_parameters() if p.ndim > 1} - {"pos_embed", "cls_token"}
    assert decayed | spared == set(names)


def test_timms_factory_leaves_rates_and_decays_of_the_groups_alone():
    model = small("test_resnet")
    freezing.train_only(model, ["fc.weight", "fc.bias"])
    made = parameter_groups(model, [ParameterGroup("head", ("fc.weight", "fc.bias"), 0.5)], 0.02, 0.05)
    optimizer = create_optimizer("adamw", made, 0.02, {"betas": [0.8, 0.9]})
    assert [(group["name"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        ("head", 0.01, 0.05),
        ("head (no decay)", 0.01, 0.0),
    ]
    assert [list(group["betas"]) for group in optimizer.param_groups] == [[0.8, 0.9]] * 2


def configured() -> Iterator[tuple[str, float, float, dict]]:
    for path in sorted((conf_dir() / "optimizer").glob("*.yaml")):
        values = yaml.safe_load(path.read_text())
        named = ["lamb", "lion", "adafactor", "muon"] if path.stem == "timm" else [values["name"]]
        yield from ((name, values["lr"], values["weight_decay"], values["options"]) for name in named)


@pytest.mark.parametrize(("name", "lr", "weight_decay", "options"), list(configured()), ids=lambda each: str(each)[:9])
def test_optimizers_of_the_configuration_take_a_step(name, lr, weight_decay, options):
    model = small("test_resnet")
    freezing.train_only(model, ["fc.weight", "fc.bias"])
    made = parameter_groups(model, [ParameterGroup("head", ("fc.weight", "fc.bias"), 1.0)], lr, weight_decay)
    optimizer = create_optimizer(name, made, lr, options)
    before = state_of(model.eval())
    model(torch.randn(2, 3, 32, 32)).logsumexp(1).sum().backward()
    optimizer.step()
    assert changed(before, model.state_dict()) == {"fc.weight", "fc.bias"}
    assert model.fc.weight.isfinite().all()


def test_an_option_that_the_optimizer_does_not_take_is_named():
    groups = [{"params": [nn.Parameter(torch.zeros(2, 2))], "name": "head"}]
    with pytest.raises(
        ValueError, match=r"^optimizer\.name=adamw with optimizer\.options=\{'momentums': 0\.9\}: .*momentums"
    ):
        create_optimizer("adamw", groups, 0.1, {"momentums": 0.9})
    with pytest.raises(ValueError, match=r"^optimizer\.name=adamwx: .*adamwx"):
        create_optimizer("adamwx", groups, 0.1, {})


FUSED = ["adam", "adamw", "sgd", "momentum"]


def stepped(optimizer: Optimizer, model: nn.Module, seeds: range, clip: float | None = None) -> None:
    """One step for each seed, on images that depend on the seed alone."""
    for seed in seeds:
        images = torch.randn(4, 3, 7, 7, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        model[1](model[0](images).mean((2, 3))).square().sum().backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def two_layers(name: str, options: dict) -> tuple[nn.Module, Optimizer]:
    """A small network and its optimizer, in two groups with their own rates and decays."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 5)).to(memory_format=torch.channels_last)
    groups = [
        {"params": [model[0].weight, model[1].weight], "lr": 0.1, "weight_decay": 0.1, "name": "weights"},
        {"params": [model[0].bias, model[1].bias], "lr": 0.01, "weight_decay": 0.0, "name": "biases"},
    ]
    return model, create_optimizer(name, groups, 0.1, options)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", FUSED)
def test_a_fused_optimizer_steps_as_the_plain_one_does(name, clip):
    plain, other = two_layers(name, {"fused": False})
    fused, optimizer = two_layers(name, {})
    assert [group["fused"] for group in optimizer.param_groups] == [True, True]
    assert not any(group["fused"] for group in other.param_groups)
    stepped(other, plain, range(5), clip)
    stepped(optimizer, fused, range(5), clip)
    for expected, found in zip(plain.parameters(), fused.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("before", [{}, {"fused": False}], ids=["fused", "plain"])
def test_an_optimizer_goes_on_bit_for_bit_from_its_state_whichever_kind_wrote_it(name, before):
    whole, optimizer = two_layers(name, before)
    stepped(optimizer, whole, range(6))
    model, optimizer = two_layers(name, before)
    stepped(optimizer, model, range(3))
    kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    again, optimizer = two_layers(name, {})
    again.load_state_dict(kept[0])
    optimizer.load_state_dict(kept[1])
    stepped(optimizer, again, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_fused_optimizer_goes_on_from_a_state_that_is_laid_out_otherwise():
    whole, optimizer = two_layers("adamw", {})
    stepped(optimizer, whole, range(6))
    model, optimizer = two_layers("adamw", {})
    stepped(optimizer, model, range(3))
    kept = copy.deepcopy(optimizer.state_dict())
    for state in kept["state"].values():  # as a network that is not channels_last has it
        state.update({name: value.contiguous() for name, value in state.items()})
    optimizer = two_layers("adamw", {})[1]
    for group, made in zip(optimizer.param_groups, ((0, 2), (1, 3)), strict=True):
        group["params"] = [list(model.parameters())[number] for number in made]
    optimizer.load_state_dict(kept)
    stepped(optimizer, model, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_gradients_are_laid_out_as_their_parameters_which_fused_kernels_take_for_granted(name):
    model = small(name).to(memory_format=torch.channels_last)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        strides = zip(parameter.shape, parameter.stride(), parameter.grad.stride(), strict=True)
        assert all(mine == other for size, mine, other in strides if size > 1)


@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": False}, {"differentiable": True}], ids=str)
def test_what_the_user_says_of_the_kernel_holds(options):
    _, optimizer = two_layers("adamw", options)
    assert not any(group["fused"] for group in optimizer.param_groups)


def test_an_optimizer_that_has_no_fused_kernel_is_made_as_it_is():
    _, optimizer = two_layers("lamb", {})
    assert "fused" not in optimizer.param_groups[0]


@pytest.mark.parametrize("scaled", [False, True], ids=["bfloat16", "float16"])
def test_gradients_can_be_clipped_in_mixed_precision(scaled):
    model, optimizer = two_layers("adamw", {})
    scaler = torch.amp.GradScaler("cpu") if scaled else None
    plugin = MixedPrecision("16-mixed" if scaled else "bf16-mixed", "cpu", scaler)
    stepped_by = two_layers("adamw", {"fused": False})
    for one, its in ((model, optimizer), stepped_by):
        loss = one[1](one[0](torch.ones(2, 3, 6, 6)).mean((2, 3))).square().sum()
        (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is not None:
            scaler.unscale_(its)
        plugin.clip_gradients(its, 0.1)
        norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in one.parameters() if p.grad is not None]))
        assert norm <= 0.1001
        if scaler is None:
            its.step()
        else:
            scaler.step(its)
            scaler.update()
    for expected, found in zip(stepped_by[0].parameters(), model.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)


def rates(name: str, steps: int, warmup: float, final: float) -> list[list[float]]:
    """The rates of two groups, 1.0 and 0.1, in each of the steps."""
    optimizer = two_groups()
    schedule = create_schedule(Schedule(name, warmup, final), optimizer, steps)
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return seen


def two_groups() -> Optimizer:
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)], lr=1.0)


def test_constant_rises_over_the_warmup_and_stays():
    seen = rates("constant", 10, 0.3, 0.5)
    assert [first for first, _ in seen] == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 1, 1, 1])
    assert [second for _, second in seen] == pytest.approx([0.1 * first for first, _ in seen])


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_rises_over_the_warmup_and_falls_by_half_a_cosine(final):
    seen = rates("cosine", 10, 0.2, final)
    falling = [final + (1 - final) * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert [first for first, _ in seen] == pytest.approx([1 / 3, 2 / 3, *falling])
    assert [second for _, second in seen] == pytest.approx([0.1 * first for first, _ in seen])


def test_cosine_ends_at_the_final_rate_after_the_last_step():
    optimizer = two_groups()
    schedule = create_schedule(Schedule("cosine", 0.0, 0.2), optimizer, 4)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.02])


@pytest.mark.parametrize("final", [0.0, 0.01, 0.5])
def test_onecycle_starts_at_a_25th_peaks_after_the_warmup_and_ends_at_the_final_rate(final):
    optimizer = two_groups()
    # 10 points, of which the peak is the third
    schedule = create_schedule(Schedule("onecycle", 0.3, final), optimizer, 9)
    seen = [[group["lr"] for group in optimizer.param_groups]]
    for _ in range(9):
        optimizer.step()
        schedule.step()
        seen.append([group["lr"] for group in optimizer.param_groups])
    first = [rate for rate, _ in seen]
    rising = [1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * step / 2)) / 2 for step in range(3)]
    falling = [final + (1 - final) * (1 + math.cos(math.pi * step / 7)) / 2 for step in range(1, 8)]
    assert first == pytest.approx([*rising, *falling], abs=1e-6)
    assert [rate for _, rate in seen] == pytest.approx([0.1 * rate for rate in first], abs=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", ["cosine", "constant", "onecycle"])
def test_phases_of_one_step_and_any_warmup_have_a_rate_above_zero_in_every_step(name, steps, warmup):
    assert all(0 < rate <= 1 + 1e-9 for pair in rates(name, steps, warmup, 0.0) for rate in pair)


@pytest.mark.parametrize("name", ["cosine", "constant", "onecycle"])
def test_a_schedule_goes_on_from_its_state_dict(name):
    whole = rates(name, 8, 0.25, 0.1)
    optimizer = two_groups()
    schedule = create_schedule(Schedule(name, 0.25, 0.1), optimizer, 8)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    states = optimizer.state_dict(), schedule.state_dict()
    optimizer = two_groups()
    schedule = create_schedule(Schedule(name, 0.25, 0.1), optimizer, 8)
    optimizer.load_state_dict(states[0])
    schedule.load_state_dict(states[1])
    seen = []
    for _ in range(5):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert seen == whole[3:]
