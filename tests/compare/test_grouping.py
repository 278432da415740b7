"""Runs that differ in nothing but their seed are one configuration."""

import math
import random

import pytest

from compare.synthetic import PARAMS
from thawlab.compare.select.grouping import group
from thawlab.config.schema import ConfigError
from thawlab.tracking.run_record import RunRecord

NEXT = iter(range(10**6))


def run(settings=None, metrics=None, tags=None, status="FINISHED", typed="", drop=()):
    """A run as one is read; each begins after the one before it."""
    number = next(NEXT)
    params = {**PARAMS, **{key: str(value) for key, value in (settings or {}).items()}}
    tags = {"overrides": "\n".join(typed.split()), "dataset_digest": "d", **(tags or {})}
    kept = {key: value for key, value in params.items() if key not in drop}
    return RunRecord(f"run{number}", "", "1", status, number, kept, {"test/acc": 0.5, **(metrics or {})}, tags, "")


def labels(grouping):
    return [each.label for each in grouping.configurations]


def test_seeds_of_a_setting_are_one_configuration_in_the_order_of_the_seeds():
    runs = [run({"freeze": depth, "seed": seed}) for seed in (10, 2) for depth in (2, 10, 1)]
    found = group(runs)
    assert labels(found) == ["freeze=1", "freeze=2", "freeze=10"]
    assert [[each.params["seed"] for each in one.runs] for one in found.configurations] == [["2", "10"]] * 3
    assert (found.factors, found.excluded, found.pooled) == (("freeze",), (), ())


def test_what_says_where_a_run_was_computed_tells_nothing_apart():
    where = {"tracking.root": "a", "trainer.workers": 3, "cache.dir": "b", "experiment_name": "c", "dataset.root": "d"}
    found = group([run({"seed": 0}), run({**where, "seed": 1})])
    assert labels(found) == [""]
    assert len(found.configurations[0].runs) == 2


def test_what_follows_from_a_setting_is_no_factor_of_its_own():
    runs = [
        run(
            {
                "backbone.name": name,
                "backbone.drop_rate": rate,
                "weights": name,
                "freeze": depth,
                "freeze_depth": depth * k,
            }
        )
        for name, rate, k in (("resnet18", 0.1, 1), ("vit", 0.2, 2))
        for depth in (0, 1)
    ]
    assert group(runs).factors == ("backbone.name", "freeze")
    runs = [
        run({"optimizer.name": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.9}, typed="optimizer=sgd"),
        run({"optimizer.name": "adamw", "optimizer.lr": 0.001}, typed="optimizer=adamw"),
    ]
    assert labels(group(runs)) == ["optimizer.name=adamw", "optimizer.name=sgd"]


def test_a_least_number_of_steps_tells_apart_only_where_it_changes_the_passes_or_was_typed():
    earlier, same = run({"seed": 0}), run({"seed": 1, "trainer.min_steps": 150, "passes": 1})
    assert labels(group([earlier, same])) == [""]
    more = run({"seed": 2, "trainer.min_steps": 150, "passes": 7})
    assert labels(group([earlier, same, more])) == ["passes=1", "passes=7"]
    shares = [
        run({"seed": s, "dataset.train_share": x, "passes": p}, typed="dataset.train_share=x")
        for x, p in ((0.1, 7), (1.0, 1))
        for s in (0, 1)
    ]
    assert group(shares).factors == ("dataset.train_share",)
    typed = [run({"seed": 0, "trainer.min_steps": n, "passes": 1}, typed=f"trainer.min_steps={n}") for n in (0, 9)]
    assert group(typed).factors == ("trainer.min_steps",)


def test_runs_without_a_rule_for_the_epoch_belong_to_those_whose_rule_comes_to_what_was_done_before():
    def with_rule(seed, images, select="auto", **more):
        return run({"seed": seed, "trainer.select": select, **more}, tags={"images.val": images, "steps": "150"})

    earlier = run({"seed": 0})
    assert labels(group([earlier, with_rule(1, "50")])) == [""]
    assert labels(group([earlier, with_rule(1, "49")])) == ["trainer.select=acc", "trainer.select=last"]
    assert labels(group([earlier, with_rule(1, "50", "loss")])) == ["trainer.select=acc", "trainer.select=loss"]
    solved = run({"seed": 1, "trainer.select": "auto"}, tags={"images.val": "9"})  # in no steps: one epoch
    assert labels(group([earlier, solved])) == [""]
    assert labels(group([with_rule(0, "49"), with_rule(1, "50", "acc")])) == [
        "trainer.select=acc",
        "trainer.select=auto",
    ]


def test_diverged_runs_of_an_earlier_version_count_for_the_configuration_that_they_belong_to():
    wild = run({"seed": 1}, tags={"diverged": "epoch 0, step 1"}, status="FAILED")
    runs = [run({"seed": 0, "passes": passes}) for passes in (1, 7)]
    assert {each.label: each.diverged for each in group([*runs, wild]).configurations} == {"passes=1": 1, "passes=7": 0}


def test_all_that_was_typed_and_varies_is_a_factor():
    draw = random.Random(0)
    runs = [
        run(
            {"optimizer.lr": lr, "optimizer.weight_decay": decay},
            typed=f"optimizer.lr={lr} optimizer.weight_decay={decay}",
        )
        for lr, decay in [(draw.random(), draw.random()) for _ in range(5)]
    ]
    assert group(runs).factors == ("optimizer.lr", "optimizer.weight_decay")


def test_a_random_search_by_others_keeps_all_its_factors():
    draw = random.Random(0)
    runs = [run({"optimizer.lr": draw.random(), "batch_size": draw.randrange(10**6)}) for _ in range(5)]
    assert group(runs).factors == ("batch_size", "optimizer.lr")


def test_the_same_settings_from_other_weights_are_not_mixed():
    runs = [run({"seed": seed}, tags={"weights_digest": digest}) for seed in (0, 1) for digest in ("aa", "bb")]
    assert labels(group(runs)) == ["weights_digest=aa", "weights_digest=bb"]
    random_start = {"backbone.pretrained": "false"}
    assert labels(
        group([run({**random_start, "seed": seed}, tags={"weights_digest": str(seed)}) for seed in (0, 1)])
    ) == [""]


def test_the_same_settings_on_other_training_images_are_not_mixed():
    runs = [
        run({"dataset.root": root, "seed": seed}, tags={"dataset_digest": root}) for root in "ab" for seed in (0, 1)
    ]
    assert labels(group(runs)) == ["dataset.root=a", "dataset.root=b"]


def test_depths_stand_in_their_order_however_they_are_written():
    written = {"all": 7, "none": 0, "0.5": 4, "blocks.1": 2, "3": 3, "10": 10}
    runs = [run({"freeze": text, "freeze_depth": depth}) for text, depth in written.items()]
    values = [each.factors["freeze"] for each in group(runs).configurations]
    assert values == ["none", "blocks.1", "3", "0.5", "all", "10"]
    bare = [
        run({"freeze": text}, drop=("freeze_depth", "freeze_stages")) for text in ("all", "2", "none", "10", "stem")
    ]
    assert [each.factors["freeze"] for each in group(bare).configurations] == ["none", "stem", "2", "10", "all"]


def test_numbers_stand_in_their_order_and_what_is_missing_last():
    runs = [run({"optimizer.lr": lr}) for lr in ("1e-05", "0.1", "0.002")] + [run(drop=("optimizer.lr",))]
    assert labels(group(runs)) == ["optimizer.lr=1e-05", "optimizer.lr=0.002", "optimizer.lr=0.1", ""]


def test_what_all_share_is_told_with_what_matters_first():
    constants = group([run({"freeze": depth}) for depth in (0, 1)]).constants
    assert list(constants)[:6] == [
        "backbone.name",
        "weights",
        "dataset.name",
        "dataset.root",
        "strategy.name",
        "transfer",
    ]
    assert constants["epochs"] == "2"
    assert not {"freeze", "tracking.root", "trainer.workers", "resume"} & constants.keys()


def test_by_pools_and_says_over_what():
    runs = [run({"freeze": depth, "optimizer.lr": lr}) for depth in (0, 1) for lr in (0.1, 0.2)]
    found = group(runs, by=["freeze"])
    assert labels(found) == ["freeze=0", "freeze=1"]
    assert [len(each.runs) for each in found.configurations] == [2, 2]
    assert (found.factors, found.pooled) == (("freeze",), ("optimizer.lr",))
    assert group(runs, by=["lr", "freeze"]).factors == ("optimizer.lr", "freeze")
    assert group(runs, by=["backbone"]).factors == ("backbone.name",)


def test_by_what_no_run_has_is_answered_by_what_they_have():
    with pytest.raises(ConfigError) as error:
        group([run()], by=["freze", "name", "freeze"])
    first, second = str(error.value).splitlines()
    assert first.startswith("by=freze: no run has such a setting; use freeze")
    assert second.startswith("by=name: which of these? backbone.name, dataset.name")


def test_runs_that_cannot_be_compared_say_why():
    good, other = run({"seed": 0}), run({"seed": 1})
    odd = {
        "failed": run(status="FAILED"),
        "stopped before its end": run(status="KILLED"),
        "still running": run(status="RUNNING"),
        "its test/acc is NaN": run(metrics={"test/acc": math.nan}),
        "its test/acc is infinite": run(metrics={"test/acc": math.inf}),
    }
    bare = RunRecord("bare", "", "1", "FINISHED", 0, PARAMS, {}, {}, "")
    parent = RunRecord("parent", "", "1", "FINISHED", 0, {}, {}, {"sweep_id": "s"}, "")
    found = group([good, *odd.values(), bare, parent, other])
    assert [each.runs for each in found.configurations] == [(good, other)]
    assert {each.reason: each.run for each in found.excluded} == {
        **odd,
        "has no test/acc": bare,
        "no run but a sweep's heading; use sweep=parent for the runs below it": parent,
    }


def test_of_repeated_runs_the_newest_that_finished_counts():
    old, new = (run(tags={"config_hash": "h"}) for _ in range(2))
    failed = run(tags={"config_hash": "h"}, status="FAILED")
    found = group([old, new, failed])
    assert [each.runs for each in found.configurations] == [(new,)]
    assert [(each.run, each.reason) for each in found.excluded] == [
        (old, f"duplicate of {new.run_id}"),
        (failed, "failed"),
    ]


def test_a_seed_counts_once_even_on_another_machine():
    old, new = run({"trainer.name": "cpu"}), run({"trainer.name": "gpu"})
    assert [(each.run, each.reason) for each in group([old, new]).excluded] == [(old, f"duplicate of {new.run_id}")]


def test_repeats_without_a_seed_in_the_store_all_count():
    runs = [run(drop=("seed",)) for _ in range(3)]
    assert [each.runs for each in group(runs).configurations] == [tuple(runs)]


def test_a_metric_that_no_run_has_is_answered_by_the_nearest():
    with pytest.raises(ConfigError, match=r"^metric=test/ac: no run that has finished has it; use test/acc$"):
        group([run()], metric="test/ac")


def test_nothing_to_compare_is_a_grouping_without_configurations():
    failed = run(status="FAILED")
    found = group([failed])
    assert (found.configurations, [each.run for each in found.excluded]) == ((), [failed])
    assert group([]).configurations == ()
