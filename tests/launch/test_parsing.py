import copy

import pytest

from thawlab.config.job import values
from thawlab.config.schema import ConfigError
from thawlab.launch import parsing
from thawlab.launch.compose import compose


@pytest.fixture(scope="module")
def defaults(tmp_path_factory):
    """The shipped defaults as plain nested values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("defaults"))
        job = compose([], "train.py")
    assert job is not None
    return values(job.config)


@pytest.fixture
def mistakes_of(defaults):
    """What `parse` says, line by line, when dotted keys of the defaults are set to other values."""

    def change(**changes):
        raw = copy.deepcopy(defaults)
        for dotted, value in changes.items():
            section, keys = raw, dotted.split("__")
            for key in keys[:-1]:
                section = section[key]
            section[keys[-1]] = value
        with pytest.raises(ConfigError) as caught:
            parsing.parse(raw)
        return str(caught.value).splitlines()

    return change


def test_the_defaults_are_valid_and_come_back_as_they_were(defaults):
    assert values(parsing.parse(defaults)) == defaults


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("freez", 4, "freez=4: no such key; nearest: freeze, resume"),
        ("optimizer__lrr", 1, "optimizer.lrr=1: no such key; nearest: optimizer.lr, optimizer.name, optimizer.options"),
        (
            "strategy__backbone_lr_scal",
            1.0,
            "strategy.backbone_lr_scal=1.0: no such key; nearest: strategy.backbone_lr_scale, strategy.name",
        ),
        (
            "tracking__rot",
            "x",
            "tracking.rot=x: no such key; nearest: tracking.root, tracking.uri, tracking.checkpoint",
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_ones(mistakes_of, key, value, message):
    assert mistakes_of(**{key: value}) == [message]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", "four", "epochs=four: use a whole number"),
        ("epochs", 1.5, "epochs=1.5: use a whole number"),
        ("epochs", None, "epochs=null: use a whole number"),
        ("epochs", True, "epochs=true: use a whole number"),
        ("image_size", "big", "image_size=big: use a whole number"),
        ("label_smoothing", "some", "label_smoothing=some: use a number"),
        ("backbone__pretrained", "maybe", "backbone.pretrained=maybe: use true or false"),
        ("backbone__name", 18, "backbone.name=18: use a text"),
        ("experiment_name", 3, "experiment_name=3: use a text"),
        (
            "optimizer",
            "adam",
            "optimizer=adam: this is a group; use GROUP=CHOICE, or GROUP.KEY=VALUE for one of its keys",
        ),
        (
            "optimizer__options",
            "fast",
            "optimizer.options=fast: this is a group; use GROUP=CHOICE, or GROUP.KEY=VALUE for one of its keys",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_the_right_one(mistakes_of, key, value, message):
    assert mistakes_of(**{key: value}) == [message]


@pytest.mark.parametrize(
    ("key", "value", "limit"),
    [
        ("epochs", 0, "use a value greater than or equal to 1"),
        ("batch_size", 0, "use a value greater than or equal to 1"),
        ("image_size", 7, "use a value greater than or equal to 8"),
        ("label_smoothing", 1.0, "use a value less than 1"),
        ("seed", -1, "use a value greater than or equal to 0"),
        ("seed", 2**32, "use a value less than 4294967296"),
        ("optimizer__lr", 0.0, "use a value greater than 0"),
        ("optimizer__weight_decay", -0.1, "use a value greater than or equal to 0"),
        ("scheduler__warmup", 1.0, "use a value less than 1"),
        ("augment__crop_scale", 0.0, "use a value greater than 0"),
        ("augment__hflip", 1.1, "use a value less than or equal to 1"),
        ("backbone__drop_rate", 1.0, "use a value less than 1"),
        ("trainer__accumulate", 0, "use a value greater than or equal to 1"),
        ("trainer__clip", 0.0, "use a value greater than 0"),
        ("trainer__ema", 1.0, "use a value less than 1"),
        ("dataset__val_share", 0.5, "use a value less than 0.5"),
        ("strategy__backbone_lr_scale", 0.0, "use a value greater than 0"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_limit(mistakes_of, key, value, limit):
    assert mistakes_of(**{key: value}) == [f"{key.replace('__', '.')}={value}: {limit}"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "use a number of stages, none, stem, all, a stage's name, or a share such as 0.5"),
        (None, "use a number of stages, none, stem, all, a stage's name, or a share such as 0.5"),
        ([1, 2], "use a number of stages, none, stem, all, a stage's name, or a share such as 0.5"),
        (1.5, "a share of the stages lies in [0, 1]; a number of stages is a whole number"),
        (-1, "a number of stages is 0 or more"),
    ],
)
@pytest.mark.parametrize("key", ["freeze", "transfer"])
def test_a_depth_that_no_backbone_has_is_refused(mistakes_of, key, value, message):
    shown = {True: "true", None: "null"}.get(value, str(value)) if not isinstance(value, list) else "[1, 2]"
    assert mistakes_of(**{key: value}) == [f"{key}={shown}: {message}"]


@pytest.mark.parametrize("depth", [0, 4, "none", "all", "stem", "layer3", "blocks.2", 0.0, 0.5, 1.0])
def test_a_depth_keeps_the_form_it_was_given_in(defaults, depth):
    parsed = parsing.parse({**defaults, "freeze": depth}).freeze
    assert (parsed, type(parsed)) == (depth, type(depth))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "scheduler__name",
            "cosin",
            "scheduler.name=cosin: use 'cosine', 'constant', 'linear' or 'onecycle'; nearest: cosine",
        ),
        ("trainer__accelerator", "cpus", "trainer.accelerator=cpus: use 'auto', 'cpu' or 'gpu'; nearest: cpu"),
        ("trainer__precision", 8, "trainer.precision=8: use 'auto' or 'bf16' or 16 or 32"),
        ("trainer__precision", "bf61", "trainer.precision=bf61: use 'auto' or 'bf16' or 16 or 32; nearest: bf16"),
        ("optimizer__name", "adamv", "optimizer.name=adamv: timm has no such optimizer; nearest: adam, radam, nadam"),
        ("strategy__name", "finetun", "strategy.name=finetun: no such strategy; nearest: finetune"),
    ],
)
def test_a_word_that_is_no_choice_is_named_with_the_choices(mistakes_of, key, value, message):
    assert mistakes_of(**{key: value}) == [message]


def test_an_architecture_that_timm_lacks_is_named_with_the_nearest_ones(mistakes_of):
    (line,) = mistakes_of(backbone__name="resnet5o")
    assert line.startswith("backbone.name=resnet5o: timm has no such architecture; nearest: ")
    assert "resnet50" in line


def test_a_value_left_open_is_asked_for(mistakes_of):
    assert mistakes_of(backbone__name="???") == ["backbone.name: has no value; give one as backbone.name=…"]


@pytest.mark.parametrize("key", ["epochs", "optimizer__lr", "dataset__val_share"])
def test_a_key_that_is_not_there_is_asked_for(defaults, key):
    raw = copy.deepcopy(defaults)
    section, _, last = key.rpartition("__")
    del (raw[section] if section else raw)[last]
    dotted = key.replace("__", ".")
    with pytest.raises(ConfigError) as caught:
        parsing.parse(raw)
    assert str(caught.value) == f"{dotted}: has no value; give one as {dotted}=…"


def test_all_mistakes_are_listed_each_once(mistakes_of):
    lines = mistakes_of(
        freez=4,
        epochs=0,
        seed="x",
        optimizer__lrr=1,
        dataset__val_share=2.0,
        strategy__lr=1,
        trainer__precision=8,
        backbone__name="???",
    )
    assert sorted(line.partition(":")[0] for line in lines) == [
        "backbone.name",
        "dataset.val_share=2.0",
        "epochs=0",
        "freez=4",
        "optimizer.lrr=1",
        "seed=x",
        "strategy.lr=1",
        "trainer.precision=8",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"augment__mixup": 0.2, "batch_size": 33},
            "batch_size=33: mixup and cutmix pair images up; use an even number",
        ),
        (
            {"trainer__accelerator": "cpu", "trainer__precision": 16},
            "trainer.precision=16: half precision needs a GPU; use bf16 or 32 on the CPU",
        ),
        ({"trainer__devices": 2}, "trainer.devices=2: several devices need trainer=ddp"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(mistakes_of, changes, message):
    assert mistakes_of(**changes) == [message]


def test_nothing_in_a_parsed_configuration_can_be_changed(defaults):
    config = parsing.parse(defaults)
    with pytest.raises(ValueError, match="frozen"):
        config.optimizer.lr = 1.0


def test_keys_are_named_with_their_sections():
    from thawlab.config.schema import Config

    found = parsing.keys(Config)
    assert {"freeze", "optimizer.lr", "trainer.devices", "tracking.root"} <= set(found)
    assert len(found) == len(set(found))
