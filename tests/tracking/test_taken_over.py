"""Runs that a sweep took over are those of the sweep, wherever its runs are asked for."""

from compare.synthetic import Made, add
from thawlab.tracking import run_search
from thawlab.tracking.past_sweeps import runs_of_sweep, runs_with_settings
from thawlab.tracking.select_runs import select_runs
from thawlab.tracking.taken_over import naming, taken_over


def ids(records):
    return [each.run_id for each in records]


def two_sweeps(store):
    """Two sweeps, of which the second took a run of the first over and one that stood alone, and has one of its own."""
    first = Made(name="first", bare=True, tags={"sweep_dir": "x", "sweep_id": "first"})
    alone = Made(tags={"config_hash": "a"})
    early = [Made(parent=first.run_id, tags={"config_hash": name}) for name in "bc"]
    tags = {"sweep_dir": "y", "sweep_id": "second", "sweep_jobs": "3", **naming([early[0].run_id, alone.run_id], {})}
    second = Made(name="second", bare=True, tags=tags)
    own = Made(parent=second.run_id, tags={"config_hash": "d"})
    add(store, [alone, first, *early, second, own])
    return alone.run_id, ids(early), own.run_id, second.run_id


def test_the_ids_come_back_in_their_order_however_many_there_are():
    many = [f"{number:032x}" for number in range(450)]
    tags = naming(many, {})
    assert sorted(tags) == ["sweep_taken_over", "sweep_taken_over.2", "sweep_taken_over.3"]
    assert taken_over({**tags, "sweep_id": "x"}) == many
    fewer = naming(many[:3], tags)
    assert taken_over(tags | fewer) == many[:3]
    assert taken_over(naming([], {})) == []
    assert max(map(len, tags.values())) < 8000


def test_a_comparison_covers_the_runs_that_a_sweep_took_over(store, monkeypatch):
    alone, (early, _), own, second = two_sweeps(store)
    for way in ("tables", "search"):
        if way == "search":
            monkeypatch.setattr(run_search, "run_tables", lambda _: None)
        for sweep in ("latest", second, "second"):
            found = select_runs(store, sweep=sweep)
            assert (ids(found.records), found.parent_id, found.unfinished) == ([alone, early, own], second, "")
        assert sorted(ids(runs_of_sweep(store, second))) == sorted([alone, early, own])
    assert len(select_runs(store, sweep="first").records) == 2


def test_a_run_that_was_deleted_since_is_missing(store):
    alone, (early, _), own, second = two_sweeps(store)
    store.client().delete_run(early)
    found = select_runs(store, sweep="latest")
    assert ids(found.records) == [alone, own]
    assert found.unfinished == "of the sweep 1 of its 3 runs are not there: not begun, or deleted"
    assert sorted(ids(runs_of_sweep(store, second))) == sorted([alone, own])


def test_runs_are_found_by_their_settings_in_some_experiments(store, monkeypatch):
    alone, (early, _), *_ = two_sweeps(store)
    add(store, [Made(tags={"config_hash": "a"}), Made(tags={"config_hash": "b"}, deleted=True)], "other")
    for way in ("tables", "search"):
        if way == "search":
            monkeypatch.setattr(run_search, "run_tables", lambda _: None)
        assert ids(runs_with_settings(store, {"synthetic"}, {"a", "b", "z"})) == [alone, early]
        assert len(runs_with_settings(store, {"synthetic", "other", "no such"}, {"a", "b"})) == 3
        assert runs_with_settings(store, {"no such"}, {"a"}) == []
