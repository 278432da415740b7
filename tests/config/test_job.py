import copy
import stat

import pytest

from thawlab.config.job import Job, config_hash, flat, remove_if_empty, values
from thawlab.launch import parsing
from thawlab.launch.process import load_job
from without_hydra import configured


@pytest.fixture(scope="module")
def defaults():
    return configured()


def changed(config, dotted, value):
    raw = copy.deepcopy(values(config))
    section, keys = raw, dotted.split(".")
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    return parsing.parse(raw)


# Runs that are recorded are found again by these. Only a new setting of the kind RESULT changes them, all at once.
RECORDED = {
    "": "6c38f557c953",
    "seed=1": "320b36bf877f",
    "freeze=4": "2b6d62441633",
    "freeze=0.5": "586bb4246d26",
    "bn=eval": "5895a736b9ad",
    "dataset=folder dataset.root=photos": "58989a51342b",
    "dataset=folder dataset.root=photos dataset.layout=classes dataset.train_share=0.1 dataset.on_bad_image=skip": (
        "b078f28f14d3"
    ),
    "backbone.name=resnet50 backbone.bundled=null backbone.drop_rate=0.2": "fbd8aad97a25",
    "backbone.name=resnet18 backbone.bundled=null backbone.checkpoint_path=https://me:secret@example.org/weights.pth": (
        "0a5d04389688"
    ),
    'optimizer.options={"betas":[0.9,0.99]}': "eb62a301357e",
    "scheduler=onecycle": "1362b4974924",
    "augment=strong": "c76eb543da9f",
    "trainer=cpu": "e199f5349aed",
    "trainer=ddp trainer.devices=2": "2df8464de887",
    "trainer.precision=bf16 trainer.channels_last=false trainer.compile=true": "8d214bf9dabd",
    "trainer.select=loss trainer.patience=3 trainer.min_steps=0 trainer.ema=0.99 trainer.clip=null "
    "trainer.accumulate=2": "906589dd40f0",
    "trainer.accelerator=cpu trainer.workers=3 trainer.images_gb=0 cache.dir=elsewhere cache.max_gb=1 "
    "cache.prefill=[1,2] tracking.root=there tracking.checkpoint=false experiment_name=mine "
    "resume=true": "6c38f557c953",
    "cache=off": "a83a1bc29914",
    "cache=require cache.views=2 cache.dtype=float16": "bf8253be5df9",
    "strategy=delta": "4dd4123a565b",
    "strategy=lp_ft": "54331faab2bf",
    "strategy=linear_probe strategy.solver=gradient": "50a950bf34a0",
    "strategy=linear_probe strategy.solver=lbfgs strategy.strengths=[0.1,1.0]": "ed7438bab6c6",
}


@pytest.mark.parametrize("typed", RECORDED)
def test_configurations_keep_the_hash_that_runs_are_recorded_with(typed):
    assert config_hash(configured(*typed.split())) == RECORDED[typed]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tracking.root", "elsewhere"),
        ("tracking.uri", "sqlite:////elsewhere/mlflow.db"),
        ("tracking.checkpoint", False),
        ("trainer.workers", 3),
        ("trainer.accelerator", "cpu"),
        ("experiment_name", "other"),
        ("resume", True),
    ],
)
def test_the_hash_does_not_see_where_and_how_fast(defaults, key, value):
    assert config_hash(changed(defaults, key, value)) == config_hash(defaults)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("freeze", 4),
        ("freeze", "all"),
        ("transfer", 2),
        ("epochs", 6),
        ("batch_size", 16),
        ("image_size", 64),
        ("optimizer.lr", 0.1),
        ("optimizer.options", {"betas": [0.9, 0.99]}),
        ("backbone.name", "resnet18"),
        ("backbone.pretrained", False),
        ("dataset.val_share", 0.2),
        ("dataset.split_seed", 1),
        ("strategy.backbone_lr_scale", 1.0),
        ("trainer.precision", "bf16"),
        ("trainer.ema", 0.99),
        ("trainer.accumulate", 2),
    ],
)
def test_the_hash_sees_what_is_trained(defaults, key, value):
    assert config_hash(changed(defaults, key, value)) != config_hash(defaults)


def test_a_setting_that_came_later_is_hashed_only_where_it_does_something_new():
    before = config_hash(configured())
    assert config_hash(configured("cache.compute=float32")) == before
    assert config_hash(configured("cache.compute=bfloat16")) != before
    assert config_hash(configured("cache.compute=auto")) != before


def test_the_hash_does_not_depend_on_the_order_of_the_keys(defaults):
    raw = values(defaults)
    assert config_hash(parsing.parse(dict(reversed(raw.items())))) == config_hash(defaults)


def test_a_job_comes_back_from_its_folder_as_it_was(defaults, tmp_path):
    folder = tmp_path / "sweep" / "3"
    sweep = {"parent_id": "abc", "sweep_id": "sweep", "number": 4}
    job = Job(changed(defaults, "freeze", 0.5), folder, ("freeze=0.5", "seed=0"), sweep, "def")
    assert job.save() == folder / "job.json"
    assert load_job(folder) == job


def test_nobody_else_reads_a_job_which_may_hold_a_password(defaults, tmp_path):
    job = Job(changed(defaults, "tracking.uri", "http://ann:S3CRET@host:5000"), tmp_path)
    assert stat.S_IMODE(job.save().stat().st_mode) == 0o600
    assert "S3CRET" in job.save().read_text()  # the process that runs it needs it


def test_a_job_is_called_by_what_was_typed_without_where_it_is_recorded(defaults, tmp_path):
    typed = ("freeze=4", "tracking.root=x", "resume=true", "+hydra.verbose=true", "seed=1")
    assert Job(defaults, tmp_path, typed).short == "freeze=4 seed=1"
    assert Job(defaults, tmp_path, ("tracking.root=x",)).short == "defaults"


def test_the_experiment_is_the_dataset_unless_it_is_named(defaults, tmp_path):
    assert Job(defaults, tmp_path).experiment_name == "digits"
    assert Job(changed(defaults, "experiment_name", "mine"), tmp_path).experiment_name == "mine"


def test_settings_of_a_dataset_and_a_strategy_are_among_the_values(defaults):
    plain = values(defaults)
    assert plain["dataset"]["name"] == "digits"
    assert {"name", "backbone_lr_scale"} == set(plain["strategy"])


def test_nested_values_get_dotted_keys():
    assert flat({"a": {"b": {"c": 1}, "d": {}}, "e": [1, {"f": 2}]}) == {"a.b.c": 1, "a.d": {}, "e": [1, {"f": 2}]}


def test_only_an_empty_folder_is_taken_away(tmp_path):
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    full.mkdir()
    (full / "job.json").write_text("{}")
    for folder in (empty, full, tmp_path / "none"):
        remove_if_empty(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_run_is_named_by_what_varies_in_its_sweep_then_its_seed(defaults, tmp_path):
    typed = ("backbone=resnet18", "dataset.split_seed=2", "freeze=4", "tracking.root=x")
    alone = Job(defaults, tmp_path, typed)
    assert (alone.run_name, alone.relations) == ("backbone=resnet18 dataset.split_seed=2 freeze=4 seed=0", [])
    assert Job(defaults, tmp_path).run_name == "defaults seed=0"
    sweep = {
        "parent_id": "p",
        "sweep_id": "s",
        "number": 3,
        "jobs": 8,
        "title": "sweep freeze=0,4",
        "varying": ["freeze"],
    }
    swept = Job(defaults, tmp_path, typed, sweep=sweep)
    assert swept.short == "freeze=4 backbone=resnet18 dataset.split_seed=2"
    assert swept.run_name == "freeze=4 seed=0 backbone=resnet18 dataset.split_seed=2"
    assert swept.relations == ["**sweep**: run 3 of 8 below the parent run `p`, sweep freeze=0,4"]
    seeds = Job(defaults, tmp_path, ("freeze=4", "epochs=1", "seed=1"), sweep=sweep | {"varying": ["freeze", "seed"]})
    assert seeds.run_name == "freeze=4 seed=1 epochs=1"


def test_a_repeated_run_names_the_one_that_it_repeats(defaults, tmp_path):
    job = Job(defaults, tmp_path / "again", ("freeze=4",), rerun_of="0123456789abcdef")
    assert job.run_name == "rerun of 01234567: freeze=4 seed=0"
    assert job.relations == ["**rerun**: repeats the run `0123456789abcdef`"]
    job.save()
    assert load_job(tmp_path / "again") == job
