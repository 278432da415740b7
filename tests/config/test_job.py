import copy
import stat

import pytest

from thawlab.config.job import Job, config_hash, flat, remove_if_empty, values
from thawlab.launch import parsing
from thawlab.launch.compose import compose
from thawlab.launch.process import load_job


@pytest.fixture(scope="module")
def defaults(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("defaults"))
        job = compose([], "train.py")
    assert job is not None
    return job.config


def changed(config, dotted, value):
    raw = copy.deepcopy(values(config))
    section, keys = raw, dotted.split(".")
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    return parsing.parse(raw)


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
