import json
import os
from pathlib import Path

import numpy as np
import pytest
from feature_entries_made import ARRAYS, BYTES, PLENTY, ROWS, fill, key, values

from thawlab.data.feature_store import arrays, eviction
from thawlab.data.feature_store.store import Array, CacheUnavailable, FeatureStore


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "cache", PLENTY)


def used_at(store: FeatureStore, wanted: dict, moment: float) -> None:
    os.utime(store.root / store.name(wanted) / "used", (moment, moment))


def folders(store: FeatureStore) -> set[str]:
    return {path.name for path in store.root.iterdir() if path.is_dir()}


def test_what_was_written_is_found_again_bit_for_bit(store):
    fill(store, key())
    entry = FeatureStore(store.root, PLENTY).find(key())
    assert entry is not None
    assert list(entry.arrays) == ["0", "1"]
    for found, given in zip(entry.arrays.values(), values(), strict=True):
        assert found.dtype == given.dtype
        np.testing.assert_array_equal(found, given)
        assert not found.flags.writeable
    assert entry.bytes == BYTES == sum(path.stat().st_size for path in entry.path.glob("*.npy"))
    assert entry.path == store.root / store.name(key())


def test_an_entry_that_is_cut_short_while_it_is_used_stays_as_it_was(store):
    entry, _ = fill(store, key())
    for path in entry.path.glob("*.npy"):
        os.truncate(path, 10)
    for found, given in zip(entry.arrays.values(), values(), strict=True):
        np.testing.assert_array_equal(found, given)


def test_a_large_array_is_read_as_it_is_used(store, monkeypatch):
    monkeypatch.setattr("thawlab.data.feature_store.arrays._IN_MEMORY", 100)
    entry, _ = fill(store, key())
    assert all(isinstance(found, np.memmap) and not found.flags.writeable for found in entry.arrays.values())
    np.testing.assert_array_equal(entry.arrays["0"], values()[0])


def test_the_writer_gives_the_entry_it_completed(store):
    entry, made = fill(store, key())
    assert made
    np.testing.assert_array_equal(entry.arrays["0"], values()[0])
    assert entry.path.is_dir()


def test_a_file_of_an_entry_opens_in_numpy_alone(store):
    entry, _ = fill(store, key())
    np.testing.assert_array_equal(np.load(entry.path / "0.npy"), values()[0])


def test_meta_json_can_be_read_by_people(store):
    entry, _ = fill(store, key())
    meta = json.loads((entry.path / "meta.json").read_text())
    assert meta["key"] == key()
    assert meta["rows"] == ROWS
    assert [array["dtype"] for array in meta["arrays"]] == ["float32", "uint16"]
    assert meta["fill_seconds"] > 0
    assert meta == entry.meta


def test_looking_for_what_is_not_there_makes_no_folder(store):
    assert store.find(key()) is None
    assert not store.has(key())
    assert store.entries() == []
    assert not store.root.exists()


@pytest.mark.parametrize("change", [{"depth": 2}, {"views": 2}, {"split": "val"}, {"weights": "abc"}], ids=str)
def test_another_key_is_another_entry(store, change):
    fill(store, key())
    assert store.find(key(**change)) is None
    assert not store.has(key(**change))
    assert store.find(key()) is not None


def test_the_order_of_a_key_does_not_matter_nor_tuples(store):
    fill(store, key(sizes=(1, 2)))
    assert store.find(dict(reversed(list(key(sizes=[1, 2]).items())))) is not None


def test_a_key_that_is_no_plain_data_is_refused(store):
    with pytest.raises(TypeError):
        store.find(key(path=Path("x")))


@pytest.mark.parametrize("chunk", [1, 7, ROWS])
@pytest.mark.parametrize("block", [1, 300, 4 << 20])
def test_chunks_need_not_be_blocks(store, monkeypatch, chunk, block):
    monkeypatch.setattr(arrays, "_BLOCK", block)  # of bytes: one row, two or 50 rows, everything
    fill(store, key(), chunk=chunk)
    monkeypatch.undo()  # an entry knows its own blocks
    entry = store.find(key())
    assert entry is not None
    np.testing.assert_array_equal(entry.arrays["1"], values()[1])


def test_rows_may_come_in_any_order_and_twice(store, monkeypatch):
    monkeypatch.setattr(arrays, "_BLOCK", 300)
    rows, wrong = values(), values(seed=1)
    with store.writing(key(), ROWS, ARRAYS) as writer:
        for first in (40, 0, 20, 30, 10):
            writer.write(first, [array[first : first + 10] for array in wrong])
            writer.write(first, [array[first : first + 10] for array in rows])
    entry = store.find(key())
    assert entry is not None
    np.testing.assert_array_equal(entry.arrays["0"], rows[0])


def test_values_that_lie_scattered_in_memory_are_stored_in_order(store):
    given = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(1, 2, 0)
    with store.writing(key(), 3, [Array("x", (4, 2), "float32")]) as writer:
        writer.write(0, [given])
    assert writer.entry is not None
    np.testing.assert_array_equal(writer.entry.arrays["x"], given)


def test_a_row_may_be_a_single_number(store):
    with store.writing(key(), 3, [Array("x", (), "float64")]) as writer:
        writer.write(0, [np.arange(3.0)])
    found = store.find(key())
    assert found is not None
    np.testing.assert_array_equal(found.arrays["x"], [0, 1, 2])


@pytest.mark.parametrize(
    ("first", "change"),
    [
        (ROWS - 1, lambda rows: rows),
        (-1, lambda rows: rows),
        (0, lambda rows: rows[:1]),
        (0, lambda rows: [rows[0], rows[1][:1]]),
        (0, lambda rows: [rows[0].astype(np.float64), rows[1]]),
        (0, lambda rows: [rows[0][:, :5], rows[1]]),
    ],
    ids=["too far", "too early", "an array less", "fewer rows", "another type", "another shape"],
)
def test_rows_that_were_not_announced_are_refused_and_leave_nothing(store, first, change):
    with pytest.raises(ValueError, match=store.name(key())), store.writing(key(), ROWS, ARRAYS) as writer:
        writer.write(first, change([array[:2] for array in values()]))
    assert folders(store) == set()


def test_an_entry_with_a_missing_row_is_not_kept(store):
    rows = values()
    missing = pytest.raises(RuntimeError, match="1 of 50 rows, from 17, were not written")
    with missing, store.writing(key(), ROWS, ARRAYS) as writer:
        writer.write(0, [array[:17] for array in rows])
        writer.write(18, [array[18:] for array in rows])
    assert folders(store) == set()
    assert store.find(key()) is None
    fill(store, key())  # the lock is free


@pytest.mark.parametrize("error", [OSError("no such image"), KeyboardInterrupt()], ids=repr)
def test_an_error_while_filling_is_passed_on_and_leaves_nothing(store, error):
    with pytest.raises(type(error)) as raised, store.writing(key(), ROWS, ARRAYS):
        raise error
    assert raised.value is error
    assert folders(store) == set()
    fill(store, key())


def test_what_is_there_already_is_not_written_again(store):
    fill(store, key(), seed=0)
    entry, made = fill(store, key(), seed=1)
    assert not made
    np.testing.assert_array_equal(entry.arrays["0"], values(seed=0)[0])


def test_several_entries_are_written_at_once(store):
    rows = values()
    with store.writing(key(depth=1), ROWS, ARRAYS) as one, store.writing(key(depth=2), ROWS, ARRAYS) as two:
        assert store.being_filled() == 2
        assert store.entries() == []
        one.write(0, rows)
        two.write(0, rows)
    assert len(store.entries()) == 2
    assert store.being_filled() == 0


def test_hits_and_last_use_are_counted(store):
    fill(store, key())
    used_at(store, key(), 1000.0)
    (before,) = store.entries()
    assert (before.hits, before.last_used) == (0, 1000.0)
    store.has(key())
    store.find(key())
    FeatureStore(store.root, PLENTY).find(key())
    store.find(key(depth=9))
    (after,) = store.entries()
    assert after.hits == 2
    assert after.last_used >= after.created > 1000.0
    assert (after.name, after.path) == (store.name(key()), store.root / store.name(key()))
    assert (after.key, after.bytes, after.rows) == (key(), BYTES, ROWS)
    assert after.fill_seconds > 0


def test_what_was_used_least_recently_makes_room(tmp_path):
    store = FeatureStore(tmp_path, 3 * BYTES)
    for depth in (1, 2, 3):
        fill(store, key(depth=depth))
        used_at(store, key(depth=depth), 1000.0 + depth)
    store.find(key(depth=1))  # now it is 2 that was used least recently
    fill(store, key(depth=4))
    assert [store.has(key(depth=depth)) for depth in (1, 2, 3, 4)] == [True, False, True, True]


def test_an_entry_that_made_room_stays_readable_for_who_has_it(tmp_path):
    store = FeatureStore(tmp_path, BYTES)
    entry, _ = fill(store, key(depth=1), seed=1)
    fill(store, key(depth=2), seed=2)
    assert not store.has(key(depth=1))
    np.testing.assert_array_equal(entry.arrays["0"], values(seed=1)[0])


def test_an_entry_larger_than_the_budget_is_refused_before_anything_is_removed(tmp_path):
    fill(FeatureStore(tmp_path, PLENTY), key(depth=1))
    store = FeatureStore(tmp_path, BYTES)
    refusal = rf"it needs 12\.9 kB, cache\.max_gb={BYTES / 1e9:g}; raise cache\.max_gb"
    with pytest.raises(CacheUnavailable, match=refusal), store.writing(key(depth=2), 2 * ROWS, ARRAYS):
        pytest.fail("it was let in")
    assert store.has(key(depth=1))
    assert len(store.entries()) == 1


def test_what_is_refused_for_its_size_makes_no_folder(tmp_path):
    with pytest.raises(CacheUnavailable, match="raise cache"):
        fill(FeatureStore(tmp_path / "cache", BYTES - 1), key())
    assert not (tmp_path / "cache").exists()


def test_room_is_made_by_one_process_at_a_time(store, monkeypatch):
    monkeypatch.setattr(eviction, "_LOCK_SECONDS", 0.1)
    store.root.mkdir()
    with (
        eviction.room_lock(store.root),
        pytest.raises(CacheUnavailable, match="other processes have been making room for too long"),
    ):
        fill(store, key())
    fill(store, key())


def test_an_entry_of_just_the_budget_is_let_in(tmp_path):
    fill(FeatureStore(tmp_path, BYTES), key())


def test_what_is_being_filled_counts_and_is_never_removed(tmp_path):
    store = FeatureStore(tmp_path, 2 * BYTES - 1)
    with store.writing(key(depth=1), ROWS, ARRAYS) as writer:
        with pytest.raises(CacheUnavailable, match="what is being filled at this moment"):
            fill(store, key(depth=2))
        writer.write(0, values())
    assert store.has(key(depth=1))


@pytest.mark.parametrize("rows", [0, -1])
def test_an_entry_without_rows_is_refused(store, rows):
    with pytest.raises(ValueError, match="rows="), store.writing(key(), rows, ARRAYS):
        pass
    assert not store.root.exists()


def test_a_removed_entry_is_gone_at_once(store):
    fill(store, key())
    store.remove(store.name(key()))
    assert folders(store) == set()
    with pytest.raises(FileNotFoundError):
        store.remove(store.name(key()))
