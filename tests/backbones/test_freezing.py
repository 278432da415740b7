"""What a fit by Lightning moves and what it leaves, and that the audit sees every bit of it."""

from collections import defaultdict
from pathlib import Path

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)
from small_fits import Fit, changed, freeze, recipe, small, state_of

# isort: split
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from thawlab.backbones import freezing
from thawlab.strategies.phases import ParameterGroup, Phase

# architecture: (freeze depth, the modules that may move)
CASES = {
    "test_resnet": (2, {"layer3", "layer4", "fc"}),
    "test_efficientnet": (3, {"blocks.3", "blocks.4", "conv_head", "bn2", "classifier"}),
    "test_vit": (4, {"blocks.4", "blocks.5", "norm", "fc_norm", "head"}),
    "test_convnext": (2, {"stages.2", "stages.3", "head"}),
}


def inside(name: str, modules: set[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


class Modes(pl.Callback):
    """Notes the modes in which each module is called during training steps."""

    def __init__(self) -> None:
        self.seen: dict[str, set[bool]] = defaultdict(set)
        self.epochs: set[int] = set()
        self._steps = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        def note(name: str):
            return lambda module, _inputs: self.seen[name].add(module.training) if self._steps else None

        for name, module in pl_module.model.named_modules():
            module.register_forward_pre_hook(note(name))

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        self._steps = True
        self.epochs.add(trainer.current_epoch)

    def on_train_batch_end(self, *_: object) -> None:
        self._steps = False


def assert_modes(modes: Modes, model: nn.Module) -> None:
    """Frozen modules ran in eval mode alone, those with a trained parameter in training mode alone."""
    for name, module in model.named_modules():
        parameters = list(module.parameters())
        if parameters and modes.seen[name]:
            assert modes.seen[name] == {any(parameter.requires_grad for parameter in parameters)}, name


@pytest.mark.parametrize("name", CASES)
def test_fit_moves_everything_above_the_freeze_depth_and_not_one_bit_below_it(name, fit):
    depth, trained = CASES[name]
    model = small(name, drop_path_rate=0.1)
    phase = freeze(model, depth, epochs=3)
    keys, before = list(model.state_dict()), state_of(model)
    digests = freezing.digests(freezing.frozen_state(model))

    fitted = fit(model, phase, recipe())

    assert fitted.trainer.current_epoch == 3
    assert changed(before, model.state_dict()) == {key for key in keys if inside(key, trained)}
    assert list(model.state_dict()) == keys
    assert set(digests) == {key for key in keys if not inside(key, trained)}
    assert freezing.audit(model, digests) == len(digests)


def test_fit_of_the_head_alone_moves_the_head_alone(fit):
    model = small("test_resnet")
    phase = freeze(model, "all", epochs=2)
    before = state_of(model)
    fit(model, phase, recipe(weight_decay=0.5))
    assert changed(before, model.state_dict()) == {"fc.weight", "fc.bias"}


def test_fit_of_a_whole_network_moves_all_of_it(fit):
    model = small("test_resnet")
    before = state_of(model)
    fit(model, freeze(model, 0), recipe())
    assert changed(before, model.state_dict()) == set(before)
    assert freezing.frozen_state(model) == {}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_frozen_parameters_get_no_gradient_and_are_not_in_the_optimizer(name, fit):
    depth, trained = CASES[name]
    model = small(name)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # left from an earlier phase; weight decay would act on it too
    gradients: dict[str, bool] = {}

    class Gradients(pl.Callback):
        def on_before_optimizer_step(self, *_: object) -> None:
            gradients.update({key: parameter.grad is not None for key, parameter in model.named_parameters()})

    fitted = fit(model, freeze(model, depth), recipe(weight_decay=0.5), callbacks=(Gradients(),))

    assert gradients == {key: inside(key, trained) for key, _ in model.named_parameters()}
    stepped = {id(each) for group in fitted.trainer.optimizers[0].param_groups for each in group["params"]}
    assert stepped == {id(parameter) for key, parameter in model.named_parameters() if inside(key, trained)}


@pytest.mark.parametrize("name", CASES)
def test_frozen_modules_are_in_eval_mode_in_every_training_step(name, fit):
    model, modes = small(name), Modes()
    fit(model, freeze(model, CASES[name][0], epochs=3), recipe(), callbacks=(modes,))
    assert modes.epochs == {0, 1, 2}
    assert_modes(modes, model)


def test_a_resumed_fit_freezes_the_same(fit, tmp_path):
    depth, trained = CASES["test_resnet"]
    first = small("test_resnet")
    start = state_of(first)
    fit(first, freeze(first, depth, epochs=2), recipe())

    model, modes = small("test_resnet"), Modes()
    last = tmp_path / "checkpoints" / "last.ckpt"
    phase = freeze(model, depth, epochs=4)
    digests = freezing.digests(freezing.frozen_state(model))
    between = torch.load(last, weights_only=True)["state_dict"]
    fit(model, phase, recipe(), resume=last, callbacks=(modes,))

    assert modes.epochs == {2, 3}
    assert_modes(modes, model)
    moved = {key for key in start if inside(key, trained)}
    assert changed(start, model.state_dict()) == moved
    assert changed({key: between[f"model.{key}"] for key in start}, model.state_dict()) == moved
    freezing.audit(model, digests)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_resumed_fit_ends_with_the_weights_of_an_uninterrupted_one(ema, fit, tmp_path):
    def fitted(epochs: int, folder: Path, resume: Path | None = None) -> Fit:
        model = small("test_vit", drop_path_rate=0.2)
        # Both are of 4 epochs, so that the schedule is the same; one is stopped after 2.
        phase = freeze(model, 2, epochs=4)
        stop = (StopAfter(epochs),)
        return fit(
            model,
            phase,
            recipe(scheduler="cosine", mixup=0.2),
            resume,
            stop,
            {"drop_last": True},
            ema=ema,
            folder=folder,
        )

    class StopAfter(pl.Callback):
        def __init__(self, epochs: int) -> None:
            self.epochs = epochs

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch + 1 >= self.epochs

    whole = fitted(4, tmp_path / "whole")
    fitted(2, tmp_path / "half")
    resumed = fitted(4, tmp_path / "half", tmp_path / "half" / "last.ckpt")
    assert [epoch for epoch, _ in resumed.reports] == [2, 3]
    assert changed(whole.module.model.state_dict(), resumed.module.model.state_dict()) == set()


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_a_moving_average_leaves_the_frozen_bits_as_they_are(decay, fit):
    depth, trained = CASES["test_resnet"]
    model = small("test_resnet")
    for buffer in model.buffers():  # counts that float arithmetic would round down
        if buffer.ndim == 0:
            buffer.fill_(100_003)
    before = state_of(model)
    fit(model, freeze(model, depth, epochs=3), recipe(), ema=decay)
    assert changed(before, model.state_dict()) == {key for key in before if inside(key, trained)}


def test_dropout_and_stochastic_depth_are_off_below_the_freeze_depth(fit):
    model = small("test_vit", pos_drop_rate=0.5, drop_path_rate=0.9, proj_drop_rate=0.5, attn_drop_rate=0.5)
    freeze(model, 4)
    images = torch.randn(2, 3, 32, 32)
    activations: list[Tensor] = []
    model.blocks[3].register_forward_hook(lambda *call: activations.append(call[2]))
    model.eval()(images)
    model.train()
    freezing.eval_frozen(model)
    outputs = [model(images) for _ in range(2)]
    assert torch.equal(activations[0], activations[1])
    assert torch.equal(activations[0], activations[2])
    assert not torch.equal(*outputs)  # the trained blocks still drop


def test_dropout_between_frozen_and_trained_blocks_stays_on():
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2))
    freezing.train_only(model, ["5.weight", "5.bias"])
    freezing.eval_frozen(model)
    assert [module.training for module in model] == [False, False, False, False, True, True]


def test_dropout_after_a_trained_layer_stays_on_whatever_follows():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2)))
    freezing.train_only(model, ["0.weight", "0.bias"])
    freezing.eval_frozen(model)
    assert [module.training for module in (model[0], model[1], model[2][1])] == [True, True, False]


def test_dropout_between_a_frozen_embedding_and_blocks_of_which_the_first_are_frozen_is_off():
    blocks = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), blocks)
    freezing.train_only(model, ["2.1.weight", "2.1.bias"])
    freezing.eval_frozen(model)
    assert [module.training for module in (model[0], model[1], blocks, blocks[0], blocks[1])] == [
        False, False, True, False, True,
    ]  # fmt: skip


def test_batch_norms_that_are_trained_amid_frozen_convolutions_keep_their_statistics_moving(fit):
    model, modes = small("test_resnet"), Modes()
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    trained = tuple(name for name, _ in model.named_parameters() if name.rpartition(".")[0] in {*norms, "fc"})
    freezing.train_only(model, trained)
    digests = freezing.digests(freezing.frozen_state(model))
    before = state_of(model)

    fit(model, Phase("norms", 2, (ParameterGroup("norms", trained, 1.0),)), recipe(), callbacks=(modes,))

    assert changed(before, model.state_dict()) == {key for key in before if key.rpartition(".")[0] in {*norms, "fc"}}
    assert all(modes.seen[name] == {True} for name in norms)
    assert freezing.audit(model, digests) == len(before) - len(trained) - 3 * len(norms)


def test_a_batch_norm_of_which_only_the_bias_is_trained_keeps_its_statistics_moving():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    freezing.train_only(model, ["1.bias"])
    freezing.eval_frozen(model)
    assert [module.training for module in model] == [False, True]
    assert set(freezing.frozen_state(model)) == {"0.weight", "0.bias", "1.weight"}


def test_only_parameters_of_the_model_can_be_trained():
    with pytest.raises(KeyError, match=r"not parameters of the model: fc\.scale"):
        freezing.train_only(small("test_resnet"), ["fc.weight", "fc.scale"])


@pytest.mark.parametrize(
    "name",
    ["layer1.0.conv1.weight", "bn1.bias", "bn1.running_mean", "layer2.0.bn1.running_var", "bn1.num_batches_tracked"],
)
def test_the_audit_names_the_one_tensor_that_moved(name):
    model = small("test_resnet")
    freeze(model, 2)
    digests = freezing.digests(freezing.frozen_state(model))
    with torch.no_grad():
        value = model.state_dict()[name]  # the model's own memory
        value.view(-1)[-1] = value.view(-1)[-1] + 1 if value.ndim == 0 else torch.nextafter(
            value.view(-1)[-1], torch.tensor(9.0)
        )  # fmt: skip
    with pytest.raises(freezing.FrozenMovedError, match=f"changed during training: {name.replace('.', '[.]')}$"):
        freezing.audit(model, digests)


def test_the_audit_fails_when_statistics_ran_in_a_frozen_batch_norm():
    model = small("test_resnet")
    freeze(model, 1)
    digests = freezing.digests(freezing.frozen_state(model))
    model.train()(torch.randn(2, 3, 32, 32))  # requires_grad is off, yet the statistics follow the images
    norms = [name for name in digests if "running" in name or "batches" in name]
    below = nn.ModuleList([model.conv1, model.bn1, model.layer1])
    assert len(norms) == 3 * sum(isinstance(module, nn.BatchNorm2d) for module in below.modules())
    with pytest.raises(freezing.FrozenMovedError) as raised:
        freezing.audit(model, digests)
    assert str(raised.value).split(": ")[1].split(" and ")[0].split(", ") == sorted(norms)[:20]


def test_the_audit_fails_when_something_was_thawed_or_is_gone():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    freezing.train_only(model, [])
    digests = freezing.digests(freezing.frozen_state(model))
    assert freezing.audit(model, digests) == 7
    freezing.train_only(model, ["0.bias"])
    with pytest.raises(freezing.FrozenMovedError, match=r"training: 0\.bias$"):
        freezing.audit(model, digests)
    freezing.train_only(model, [])
    model[1].running_mean = None
    with pytest.raises(freezing.FrozenMovedError, match=r"training: 1\.running_mean$"):
        freezing.audit(model, digests)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([1.0078125], dtype=torch.bfloat16)),
        (torch.tensor([1.0], dtype=torch.float16), torch.tensor([2.0], dtype=torch.float16)),
        (torch.tensor(3), torch.tensor(4)),
        (torch.tensor(3), torch.tensor(3, dtype=torch.int32)),
        (torch.tensor([True, False]), torch.tensor([True, True])),
        (torch.tensor([1, 2], dtype=torch.int8), torch.tensor([1, 3], dtype=torch.int8)),
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.zeros(0), torch.zeros(1)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.tensor([1j]), torch.tensor([2j])),
    ],
)
def test_the_audit_sees_a_change_in_a_buffer_of_any_type_and_shape(before, after):
    model = nn.Linear(1, 1)
    model.register_buffer("state", before)
    freezing.train_only(model, [])
    digests = freezing.digests(freezing.frozen_state(model))
    model.state = before.clone()
    assert freezing.audit(model, digests) == 3
    model.state = after
    with pytest.raises(freezing.FrozenMovedError, match=r"training: state$"):
        freezing.audit(model, digests)


def test_the_audit_is_indifferent_to_the_memory_layout_and_sees_nan():
    model = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        model.weight[0, 0, 0, 0] = torch.nan
    freezing.train_only(model, [])
    digests = freezing.digests(freezing.frozen_state(model))
    model.to(memory_format=torch.channels_last)
    assert freezing.audit(model, digests) == 2


def test_a_digest_depends_on_names_and_values_and_not_on_their_order():
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    digest = freezing.digest_of({"a": one, "b": two})
    assert len(digest) == 16
    assert digest == freezing.digest_of({"b": two, "a": one})
    assert len({digest, freezing.digest_of({"a": two, "b": one}), freezing.digest_of({"a": one, "c": two})}) == 3
