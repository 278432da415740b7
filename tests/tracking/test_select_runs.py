"""Runs are found by sweep, experiment, ids and filter, in a database as on a server."""

import dataclasses
import math

import pytest

from compare.synthetic import Made, add, add_predictions, add_sweep
from thawlab.tracking import run_search
from thawlab.tracking.results import links, metric_histories, prediction_file
from thawlab.tracking.select_runs import RunRecord, select_runs
from thawlab.tracking.store import open_store


@pytest.fixture(params=["tables", "search"])
def way(request, monkeypatch):
    """As in a database, and as on a server, where nothing but MLflow's search is at hand."""
    if request.param == "search":
        monkeypatch.setattr(run_search, "run_tables", lambda store: None)
        monkeypatch.setattr(run_search, "_PAGE", 3)
    return request.param


def ids(selection):
    return [each.run_id for each in selection.records]


def test_the_latest_sweep_is_the_one_that_began_last(store, way):
    add_sweep(store, [{"freeze": 0}])
    parent, *children = add_sweep(store, [{"freeze": depth} for depth in range(5)], sweep_id="sweep_b")
    alone = add(store, [Made()])
    found = select_runs(store)
    assert (ids(found), found.title, found.parent_id) == (children, "sweep sweep_b", parent)
    assert alone[0] not in ids(found)


def test_a_sweep_is_named_by_its_parent_or_its_folder(store, way):
    parent, *children = add_sweep(store, [{"seed": 0}, {"seed": 1}], sweep_id="sweep_a")
    add_sweep(store, [{"seed": 0}])
    for name in (parent, "sweep_a", "outputs/sweep_a/"):
        assert ids(select_runs(store, sweep=name)) == children


def test_runs_below_the_runs_of_a_sweep_belong_to_it(store, way):
    parent, job = add_sweep(store, [{}], bare=True)
    heads = add(store, [Made(parent=job, params={"seed": seed}) for seed in range(4)])
    assert ids(select_runs(store, sweep=parent)) == heads


def test_an_experiment_is_all_its_runs_but_the_parents(store, way):
    _, *children = add_sweep(store, [{"seed": 0}, {"seed": 1}], "one")
    alone = add(store, [Made(), Made(deleted=True), Made(status="FAILED")], "one")
    add(store, [Made()], "other")
    assert ids(select_runs(store, experiment="one")) == [*children, alone[0], alone[2]]


def test_a_filter_restricts_what_was_chosen(store, way):
    _, *children = add_sweep(store, [{"freeze": depth} for depth in range(5)])
    other = add(store, [Made({"freeze": 4})], "other")
    assert ids(select_runs(store, sweep="latest", filter="params.freeze = '4'")) == [children[4]]
    assert ids(select_runs(store, filter="params.freeze = '4'")) == [children[4], *other]
    assert ids(select_runs(store, runs=children[:2], filter="params.freeze != '0'")) == [children[1]]
    assert ids(select_runs(store, experiment="other", filter="metrics.`test/acc` > 0.5")) == other


def test_many_matches_of_a_filter_are_those_that_mlflow_finds(store, monkeypatch):
    runs = add(store, [Made({"freeze": place % 3}, {"test/acc": place / 10}) for place in range(10)])
    monkeypatch.setattr(run_search, "_SMALL", 2)
    for text in (
        "params.freeze = '1'",
        "metrics.`test/acc` >= 0.3 and params.freeze != '0'",
        "tags.`mlflow.runName` LIKE '%a%'",
    ):
        expected = store.client().search_runs(["1", "2"], text, max_results=100)
        assert sorted(ids(select_runs(store, filter=text))) == sorted(run.info.run_id for run in expected)
    assert ids(select_runs(store, filter="attributes.end_time > 0")) == runs


def test_a_run_is_read_as_mlflow_reads_it(store):
    (run_id,) = add(store, [Made({"a": "ü"}, {"test/acc": math.nan, "x": 1e300}, {"note": ""}, name="a name")])
    (record,) = select_runs(store, runs=[run_id]).records
    expected = RunRecord.of(store.client().get_run(run_id))
    assert math.isnan(record.metrics["test/acc"])
    assert math.isnan(expected.metrics["test/acc"])
    plain = [{**dataclasses.asdict(each), "metrics": {**each.metrics, "test/acc": 0}} for each in (record, expected)]
    assert plain[0] == plain[1]


def test_tables_that_mlflow_reads_differently_are_left_to_mlflow(store, monkeypatch):
    from thawlab.tracking import run_tables

    runs = add(store, [Made(), Made()])
    read = run_tables.RunTables.read
    broken = lambda self, run_ids: [dataclasses.replace(each, params={}) for each in read(self, run_ids)]  # noqa: E731
    monkeypatch.setattr(run_tables.RunTables, "read", broken)
    assert run_tables.run_tables(store) is None
    found = select_runs(store, experiment="synthetic")
    assert ids(found) == runs
    assert all(each.params for each in found.records)


def test_runs_that_are_not_there_are_told_by_name(store, way):
    here, gone = add(store, [Made(), Made(deleted=True, name="old")])
    with pytest.raises(
        ValueError, match=f"^runs: {gone} \\(deleted: old\\), abc \\(no such run\\); leave them out"
    ) as error:
        select_runs(store, runs=[here, gone, "abc"])
    assert here in str(error.value)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"sweep": "sweep_ab"}, "there is no such sweep in .*; nearest: sweep_a; latest: sweep_a"),
        ({"sweep": "0" * 32}, "there is no such sweep"),
        ({"sweep": "it's"}, "there is no such sweep"),
        ({"experiment": "synthetik"}, "there is no such experiment in .*; use synthetic"),
        ({"experiment": "unused"}, "it has no runs"),
        ({"filter": "params.freeze"}, "MLflow cannot read this: Invalid clause"),
        ({"filter": "params.freeze = '99'"}, "no run matches"),
        ({"sweep": "latest", "filter": "nonsense > 1"}, "MLflow cannot read this"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_answered_by_what_does(store, way, chosen, message):
    add_sweep(store, [{}], sweep_id="sweep_a")
    key, value = list(chosen.items())[-1]
    with pytest.raises(ValueError, match=f"(?s)^{key}=.*{message}") as error:
        select_runs(store, **chosen)
    assert str(error.value).startswith(f"{key}={value}: ")


def test_a_single_run_is_no_sweep(store, way):
    parent, child = add_sweep(store, [{}])
    alone, deleted = add(store, [Made(), Made(deleted=True)])
    with pytest.raises(ValueError, match=f"is a single run of the sweep {parent}; use sweep={parent}"):
        select_runs(store, sweep=child)
    with pytest.raises(ValueError, match="has no runs below it"):
        select_runs(store, sweep=alone)
    with pytest.raises(ValueError, match="was deleted"):
        select_runs(store, sweep=deleted)


def test_a_store_without_a_sweep_says_what_to_do(store, way):
    add(store, [Made()])
    with pytest.raises(ValueError, match="holds no sweep; run one with"):
        select_runs(store)


def test_a_folder_without_a_store_is_left_empty(tmp_path):
    with pytest.raises(ValueError, match=f"^root={tmp_path}: there is no store mlflow.db there"):
        select_runs(open_store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_be_written_to_is_read(store):
    runs = add(store, [Made()])
    before = store.database.read_bytes()
    store.database.chmod(0o444)
    assert ids(select_runs(store, experiment="synthetic")) == runs
    assert store.database.read_bytes() == before


@pytest.mark.parametrize("tables", [True, False])
def test_histories_hold_each_step_once(store, monkeypatch, tables):
    from thawlab.tracking import results

    if not tables:
        monkeypatch.setattr(results, "run_tables", lambda store: None)
    runs = add(store, [Made(history={"val/acc": [0.1, 0.2, math.nan]}), Made()])
    store.client().log_metric(runs[0], "val/acc", 0.15, timestamp=1_800_000_000_000, step=0)
    found = metric_histories(store, runs, "val/acc")
    assert found[runs[1]] == []
    assert found[runs[0]][:2] == [(0, 0.15), (1, 0.2)]
    assert math.isnan(found[runs[0]][2][1])


def test_predictions_are_found_where_they_lie_even_in_a_store_that_was_moved(store):
    runs = add(store, [Made(), Made()])
    path = add_predictions(store, runs[0])
    records = select_runs(store, experiment="synthetic").records
    assert [prediction_file(store, each) for each in records] == [path, None]
    moved = dataclasses.replace(records[0], artifact_uri="file:///gone/artifacts")
    assert prediction_file(store, moved) == path


def test_each_run_has_a_page_where_there_is_a_server(store):
    add(store, [Made()])
    (record,) = records = select_runs(store, experiment="synthetic").records
    page = f"http://host:5000/#/experiments/{record.experiment_id}/runs/{record.run_id}?workflowType=machine_learning"
    assert links(store, records, "http://host:5000/") == {record.run_id: page}
    assert links(store, records) == {}
