"""Predictions are aligned sample by sample, and those of different test sets are never compared."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from compare.synthetic import CLASSES, Made, add, add_predictions, predictions_path
from thawlab.compare.comparison import Configuration
from thawlab.compare.select.aligned_predictions import read
from thawlab.compare.select.same_test_set import check_same_images
from thawlab.config.schema import ConfigError
from thawlab.data.build import assemble
from thawlab.data.images import Samples
from thawlab.tracking.select_runs import RunRecord, select_runs
from thawlab.tracking.store import Store


def made(store: Store, count: int, tags: Sequence[dict] = (), **about) -> list[RunRecord]:
    own = [*tags, *[{}] * (count - len(tags))]
    add(store, [Made({"seed": seed}, tags=own[seed], **about) for seed in range(count)])
    return list(select_runs(store, experiment="synthetic").records)


def configuration(*runs: RunRecord) -> Configuration:
    return Configuration("", {}, runs)


def change(store: Store, run: RunRecord, how) -> None:
    path = predictions_path(store, run.run_id)
    how(pd.read_parquet(path)).to_parquet(path, index=False)


def test_predictions_are_aligned_by_sample_and_class(store):
    runs = made(store, 3)
    for seed, run in enumerate(runs):
        add_predictions(store, run.run_id, seed=seed)
    before = read(store, [configuration(*runs)])
    change(store, runs[1], lambda table: table.sample(frac=1, random_state=0))
    change(
        store,
        runs[2],
        lambda table: table[["id", "path", "label", "predicted", *(f"p/{name}" for name in reversed(CLASSES))]],
    )
    found = read(store, [configuration(*runs[:2]), configuration(runs[2])])
    assert found.classes == CLASSES
    assert found.ids == tuple(f"test/{number:04d}" for number in range(60))
    assert found.paths[1] == "/images/test/0001.png"
    assert found.excluded == ()
    assert [each.runs for each in found.configurations] == [tuple(runs[:2]), (runs[2],)]
    for name in ("predicted", "probabilities"):
        joined = np.concatenate([getattr(each, name) for each in found.configurations])
        np.testing.assert_array_equal(joined, getattr(before.configurations[0], name))
    np.testing.assert_array_equal(found.labels, before.labels)
    assert joined.shape == (3, 60, 3)
    assert joined.dtype == np.float32
    table = pd.read_parquet(predictions_path(store, runs[0].run_id)).sort_values("id")
    assert [CLASSES[place] for place in found.configurations[0].predicted[0]] == list(table["predicted"])


DAMAGE = {
    "its predictions lack the column id": lambda table: table.drop(columns="id"),
    "its predictions have 1 samples twice, for instance test/0000": lambda table: table.assign(
        id=[table["id"][0], table["id"][0], *table["id"][2:]]
    ),
    "its predictions have no probabilities of the class star": lambda table: table.drop(columns="p/star"),
    "its probabilities are NaN or infinite": lambda table: table.assign(**{"p/star": np.nan}),
    "its probabilities do not sum to 1 (60 of 60 samples)": lambda table: table.assign(
        **{"p/star": table["p/star"] + 1}
    ),
    "its predictions are of no sample": lambda table: table[:0],
    "its predicted classes are not those with the highest probability": lambda table: table.assign(predicted="star"),
    "its predictions have a class that others lack, hexagon": lambda table: table.assign(
        **{"p/hexagon": np.float32(0)}
    ),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_what_is_wrong_with_predictions_is_told_and_the_others_count(store, reason):
    runs = made(store, 3)
    for run in runs:
        add_predictions(store, run.run_id)
    change(store, runs[1], DAMAGE[reason])
    found = read(store, [configuration(*runs)])
    assert [(each.run, each.reason) for each in found.excluded] == [(runs[1], reason)]
    assert found.configurations[0].runs == (runs[0], runs[2])
    assert found.configurations[0].predicted.shape == (2, 60)


def test_missing_and_unreadable_predictions_are_told_apart(store):
    runs = made(store, 3)
    add_predictions(store, runs[0].run_id)
    add_predictions(store, runs[2].run_id).write_bytes(b"PAR1 not at all")
    found = read(store, [configuration(*runs)])
    missing, unreadable = found.excluded
    assert (missing.run, missing.reason) == (runs[1], "no predictions")
    assert unreadable.run == runs[2]
    assert unreadable.reason.startswith("its predictions cannot be read (")


def test_without_any_predictions_the_set_is_empty(store):
    runs = made(store, 2)
    found = read(store, [configuration(*runs)])
    assert (found.ids, found.classes, found.configurations[0].runs) == ((), (), ())
    assert [each.reason for each in found.excluded] == ["no predictions"] * 2


def test_different_test_sets_are_refused_with_the_runs_and_a_way_out(store):
    add(store, [Made({"dataset.root": "a", "seed": seed}, name=f"a{seed}") for seed in range(5)])
    add(store, [Made({"dataset.root": "b"}, name="b0", tags={"dataset_digest": "other"})])
    runs = select_runs(store, experiment="synthetic").records
    for run in runs[:5]:
        add_predictions(store, run.run_id)
    add_predictions(store, runs[5].run_id, ids=[f"test/{number}" for number in range(9)])
    a, b = [run.run_id for run in runs[:3]], runs[5].run_id
    message = (
        "runs: they were tested on 2 different sets of images, and scores on different images are not compared; "
        f"5 runs with dataset.root=a: {a[0]} (a0), {a[1]} (a1), {a[2]} (a2) and 2 more; 1 run with dataset.root=b: {b} "
        "(b0); compare those of one test set, by filter=\"params.dataset.root = 'a'\""
    )
    with pytest.raises(ConfigError) as error:
        read(store, [configuration(*runs[:5]), configuration(runs[5])])
    assert str(error.value) == message
    with pytest.raises(ConfigError) as error:
        check_same_images(store, runs)
    assert str(error.value) == message


def test_where_no_setting_tells_test_sets_apart_the_runs_are_named(store):
    runs = made(store, 2, [{"test_digest": "one"}, {"test_digest": "two"}])
    for run in runs:
        add_predictions(store, run.run_id)  # the same ids and labels, of other images
    for check in (lambda: read(store, [configuration(*runs)]), lambda: check_same_images(store, runs)):
        with pytest.raises(ConfigError, match=r"compare those of one test set, by runs=\[\w{32}\]$"):
            check()


def test_other_labels_of_the_same_images_are_another_test_set(store):
    runs = made(store, 2, [{"dataset_digest": "one"}, {"dataset_digest": "two"}])
    for run in runs:
        add_predictions(store, run.run_id)
    change(store, runs[1], lambda table: table.assign(label="star"))
    for check in (lambda: read(store, [configuration(*runs)]), lambda: check_same_images(store, runs)):
        with pytest.raises(ConfigError, match="tested on 2 different sets of images"):
            check()


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("tagged", [True, False])
def test_other_training_images_are_no_other_test_set(store, tagged, kept):
    test = {"test_digest": "t"} if tagged else {}
    own = [{"dataset.train_share": share} for share in (0.1, 1.0)]
    add(store, [Made(each, tags={"dataset_digest": str(each), **test}) for each in own])
    runs = select_runs(store, experiment="synthetic").records
    for run in runs if kept else ():
        add_predictions(store, run.run_id)
    check_same_images(store, runs)
    assert [len(each.runs) for each in read(store, [configuration(*runs)]).configurations] == [2 if kept else 0]


def test_runs_of_earlier_versions_are_held_against_those_that_know_more(store):
    runs = made(store, 3, [{"test_digest": "t"}, {}, {"dataset_digest": "other"}])
    for run in runs[:2]:
        add_predictions(store, run.run_id)
    check_same_images(store, runs)
    assert len(read(store, [configuration(*runs)]).configurations[0].runs) == 2


def test_the_test_digest_depends_on_the_test_images_alone():
    labels = np.arange(60) % 2

    def digest(share: float, suffix: str = "") -> tuple[str, str]:
        hashes = [f"{number}{suffix}" for number in range(60)]
        samples = Samples([f"s/{number}" for number in range(60)], [""] * 60, labels, hashes, lambda positions: len)
        given = {"train": np.arange(40), "val": np.arange(40, 50), "test": np.arange(50, 60)}
        about = {"shares": {}, "seed": 0, "key": "dataset=s", "hflip": False, "train_share": share}
        data = assemble("s", "ab", samples, given, **about)
        return data.digest, data.test_digest

    whole, half, others = digest(1.0), digest(0.5), digest(1.0, "other")
    assert whole[0] != half[0]
    assert whole[1] == half[1] != others[1]
