import json

import pytest

from thawlab.config import head_grid
from thawlab.config.job import Job, config_hash, values
from thawlab.config.schema import ConfigError
from thawlab.launch import head_lists, sweep_plan
from thawlab.launch.compose import compose
from thawlab.launch.process import load_job

PROBE = "strategy=linear_probe"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def composed(*arguments: str) -> Job:
    job = compose(arguments, "train.py")
    assert job is not None
    return job


def refused(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose(arguments, "train.py")
    return str(caught.value)


def test_without_a_list_there_is_one_run():
    job = composed(PROBE)
    assert job.variants == ()
    assert head_lists.expand(values(job.config)) == [values(job.config)]


def test_all_combinations_come_in_one_order_with_the_seed_fastest():
    job = composed(
        PROBE,
        "seed=[0,1]",
        "label_smoothing=[0.0,0.1]",
        "optimizer.weight_decay=[0.01,0.1]",
        "optimizer.lr=[1e-3,3e-3,1e-2]",
    )
    rows = [tuple(head_grid.settings(each).values()) for each in job.variants]
    expected = [
        (lr, decay, smoothing, seed)
        for lr in (1e-3, 3e-3, 1e-2)
        for decay in (0.01, 0.1)
        for smoothing in (0.0, 0.1)
        for seed in (0, 1)
    ]
    assert rows == expected
    assert job.config == job.variants[0]


def test_a_head_is_the_run_that_one_would_type_alone():
    job = composed(PROBE, "optimizer.lr=[1e-3,3e-3]", "seed=[0,1]", "epochs=7")
    single = composed(PROBE, "strategy.solver=gradient", "optimizer.lr=3e-3", "seed=1", "epochs=7")
    assert job.variants[3] == single.config
    assert config_hash(job.variants[3]) == config_hash(single.config)
    typed = head_grid.overrides(job.overrides, job.variants[3], head_grid.varying(job.variants))
    assert typed == (PROBE, "optimizer.lr=0.003", "seed=1", "epochs=7", "strategy.solver=gradient")
    assert composed(*typed).config == single.config


def test_a_list_of_one_value_is_one_head_and_is_typed_without_brackets():
    job = composed(PROBE, "seed=[3]")
    assert [each.seed for each in job.variants] == [3]
    assert head_grid.overrides(job.overrides, job.config, ()) == (PROBE, "seed=3", "strategy.solver=gradient")
    assert head_grid.label(job.config, head_grid.varying(job.variants)).endswith("label_smoothing=0.1 seed=3")


def test_a_list_from_a_study_is_added_to_what_one_types(tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "study.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /strategy: linear_probe\noptimizer:\n  lr: [0.1, 0.2]\n"
    )
    job = composed("experiment=study")
    assert head_grid.overrides(job.overrides, job.variants[1], head_grid.varying(job.variants)) == (
        "experiment=study",
        "optimizer.lr=0.2",
        "strategy.solver=gradient",
    )


def test_heads_take_steps_where_one_head_is_solved_for_unless_one_asks_for_the_other():
    assert composed(PROBE).config.strategy.solver == "lbfgs"
    assert {each.strategy.solver for each in composed(PROBE, "seed=[0,1]").variants} == {"gradient"}
    typed = (PROBE, "strategy.solver=gradient", "seed=[0,1]")
    job = composed(*typed)
    assert head_grid.overrides(job.overrides, job.variants[1], ("seed",)) == (*typed[:2], "seed=1")


def test_a_job_of_many_heads_comes_back_from_its_folder_as_it_was(tmp_path):
    job = composed(PROBE, "optimizer.lr=[1e-3,3e-3]", "seed=[0,1]")
    job = Job(job.config, tmp_path / "job", job.overrides, {}, None, job.variants)
    job.save()
    assert load_job(job.output_dir) == job
    assert len(json.loads((job.output_dir / "job.json").read_text())["variants"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["optimizer.lr=[0.001,0.003]"],
            "optimizer.lr=[0.001,0.003]: lists are for strategy=linear_probe, whose heads are trained together; with "
            "strategy=finetune use a sweep: -m optimizer.lr=0.001,0.003",
        ),
        (
            [PROBE, "strategy.solver=lbfgs", "seed=[0,1]"],
            "seed=[0,1]: with strategy.solver=lbfgs nothing but C matters to the head; leave the list out and give the "
            "values of C as strategy.strengths=[0.1,1.0]",
        ),
        ([PROBE, "optimizer.lr=[]"], "optimizer.lr=[]: the list is empty; give at least one value"),
        ([PROBE, "optimizer.lr=[0.1,1e-1]"], "optimizer.lr=[0.1,0.1]: 0.1 is there twice; name each value once"),
        ([PROBE, "optimizer.lr=[0.1,fast]"], "optimizer.lr=fast: use a number"),
        ([PROBE, "seed=[0,[1]]"], "seed=[1]: use a whole number"),
        (
            [PROBE, "label_smoothing=[0.1,1.0]", "seed=[0,-1]"],
            "label_smoothing=1.0: use a value less than 1\nseed=-1: use a value greater than or equal to 0",
        ),
        ([PROBE, "epochs=[1,2]"], "epochs=[1, 2]: use a whole number"),
        (
            [PROBE, f"seed={list(range(101))}".replace(" ", ""), f"optimizer.lr=[{','.join(map(str, range(1, 11)))}]"],
            "10 (optimizer.lr) × 101 (seed) = 1010 heads: at most 1000 are trained together; shorten a list",
        ),
        (
            [PROBE, "seed=[0,1]", "trainer=ddp", "trainer.devices=2"],
            "trainer=ddp: heads that are trained together (seed=[0,1]) share one process; use trainer=auto, or a "
            "sweep: -m seed=0,1",
        ),
    ],
)
def test_what_cannot_be_trained_together_is_said_with_the_way_out(arguments, message):
    assert sorted(refused(*arguments).splitlines()) == sorted(message.splitlines())


@pytest.mark.parametrize(
    ("argument", "off"),
    [
        ("augment.mixup=0.2", "augment.mixup=0"),
        ("augment.cutmix=1.0", "augment.cutmix=0"),
        ("trainer.ema=0.9", "trainer.ema=null"),
        ("trainer.patience=3", "trainer.patience=null"),
        ("backbone.drop_rate=0.1", "backbone.drop_rate=0"),
        ("resume=true", "resume=false"),
    ],
)
def test_a_setting_that_heads_together_cannot_have_is_refused(argument, off):
    assert refused(PROBE, "seed=[0,1]", argument) == (
        f"{argument}: heads that are trained together (seed=[0,1]) cannot have it; use {off}, or a sweep: -m seed=0,1"
    )


def test_a_sweep_takes_lists_as_they_are_and_checks_every_job():
    jobs = sweep_plan.expand([PROBE, "optimizer.lr=[1e-3,3e-3]", "freeze=0,1"], {})
    assert [[each for each in job if each.startswith(("optimizer", "freeze"))] for job in jobs] == [
        ["optimizer.lr=[0.001,0.003]", "freeze=0"],
        ["optimizer.lr=[0.001,0.003]", "freeze=1"],
    ]
    with pytest.raises(ConfigError, match=r"lists are for strategy=linear_probe"):
        compose(["-m", "optimizer.lr=[1e-3,3e-3]", "freeze=0,1"], "train.py")


def test_several_lists_may_be_swept():
    jobs = sweep_plan.expand([PROBE, "optimizer.lr=[1e-3],[3e-3,1e-2]"], {})
    assert [job[-1] for job in jobs] == ["optimizer.lr=[0.001]", "optimizer.lr=[0.003,0.01]"]
