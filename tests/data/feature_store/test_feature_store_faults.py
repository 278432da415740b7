"""Whatever happens to the cache: what is found is right, and a run can go on."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections import namedtuple
from pathlib import Path

import feature_entries_made
import numpy as np
import pytest
from feature_entries_made import ARRAYS, BYTES, PLENTY, ROWS, fill, key, values

from thawlab.data.feature_store.store import CacheUnavailable, FeatureStore

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "cache", PLENTY)


def folders(store: FeatureStore) -> set[str]:
    return {path.name for path in store.root.iterdir() if path.is_dir()} if store.root.is_dir() else set()


def command(store: FeatureStore, wanted: dict, seed: int, mode: str) -> list[str]:
    words = [str(store.root), str(store.max_bytes), json.dumps(wanted), str(seed), mode]
    return [sys.executable, feature_entries_made.__file__, *words]


def start(store: FeatureStore, wanted: dict, seed: int = 0, mode: str = "at once") -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(command(store, wanted, seed, mode), **pipes, env=environment)


def answer(process: subprocess.Popen[str], text: str = "") -> tuple[dict, list[str]]:
    """What a process read, and what else it said."""
    lines = process.communicate(text, timeout=60)[0].splitlines()
    assert process.returncode == 0
    return json.loads(lines[-1]), lines[:-1]


def is_right(entry, seed: int = 0) -> bool:
    return all(np.array_equal(*pair) for pair in zip(entry.arrays.values(), values(seed), strict=True))


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position, os.SEEK_END if position < 0 else os.SEEK_SET)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


DAMAGE = {
    "a byte of the first row": (
        lambda folder: flip(folder / "0.npy", 128),
        "0.npy differs from its checksum in rows 0",
    ),
    "the last byte": (lambda folder: flip(folder / "1.npy", -1), r"1.npy differs from its checksum in rows 0 to 49"),
    "a byte of the header": (lambda folder: flip(folder / "0.npy", 100), "0.npy differs from its checksum in rows 0"),
    "a shorter file": (lambda folder: os.truncate(folder / "0.npy", 6127), "0.npy has 6,127 bytes in place of 6,128"),
    "a longer file": (lambda folder: os.truncate(folder / "0.npy", 6129), "0.npy has 6,129 bytes in place of 6,128"),
    "an empty file": (lambda folder: os.truncate(folder / "1.npy", 0), "1.npy has 0 bytes"),
    "a missing file": (lambda folder: (folder / "1.npy").unlink(), "1.npy cannot be read: No such file or directory"),
    "no meta.json": (lambda folder: (folder / "meta.json").unlink(), "meta.json cannot be read: No such file"),
    "half of meta.json": (lambda folder: os.truncate(folder / "meta.json", 200), "meta.json is not JSON"),
    "no text": (lambda folder: (folder / "meta.json").write_bytes(b"\xff" * 20), "meta.json is not JSON"),
    "another JSON": (lambda folder: (folder / "meta.json").write_text("[]"), "meta.json differs from its checksum"),
    "NaN": (lambda folder: (folder / "meta.json").write_text('{"rows": NaN}'), "meta.json is not JSON"),
    "another number of rows": (
        lambda folder: (folder / "meta.json").write_text(
            (folder / "meta.json").read_text().replace('"rows": 50', '"rows": 49')
        ),
        "meta.json differs from its checksum",
    ),
    "a file in place of the folder": (
        lambda folder: (shutil.rmtree(folder), folder.write_text("")),
        "meta.json cannot be read: Not a directory",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_entry_is_warned_about_removed_and_made_anew(store, name):
    damage, reason = DAMAGE[name]
    entry, _ = fill(store, key())
    damage(entry.path)
    with pytest.warns(UserWarning, match=f"{entry.path}: {reason}.*removed, and it is computed anew") as warned:
        assert store.find(key()) is None
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert not entry.path.exists()
    assert folders(store) == set()
    assert fill(store, key())[1]
    again = store.find(key())
    assert again is not None
    assert is_right(again)


def test_no_flipped_byte_gives_a_wrong_number(store, monkeypatch):
    entry, _ = fill(store, key())
    monkeypatch.setattr(FeatureStore, "_give_up", lambda *_: None)  # nothing is removed, for the sake of speed
    found = 0
    for path in [entry.path / name for name in ("0.npy", "1.npy", "meta.json")]:
        for position in range(0, path.stat().st_size, 7):
            flip(path, position)
            read = store.find(key())
            found += read is not None
            assert read is None or is_right(read), (path.name, position)
            flip(path, position)
    assert found < 50  # white space in meta.json makes no difference
    assert store.find(key()) is not None


def test_an_entry_under_the_name_of_another_key_is_refused(store):
    fill(store, key(depth=1))
    (store.root / store.name(key(depth=1))).rename(store.root / store.name(key(depth=2)))
    with pytest.warns(UserWarning, match="meta.json holds another key; the entry is removed"):
        assert store.find(key(depth=2)) is None
    assert folders(store) == set()


def test_an_entry_of_another_version_is_made_anew(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("thawlab.data.feature_store.entry._FORMAT", 7)
        fill(store, key())
    with pytest.warns(UserWarning, match="has the format 7, and this version of thawlab reads 1"):
        assert store.find(key()) is None


def test_damage_seen_only_after_the_wait_for_the_lock_is_repaired_too(store):
    entry, _ = fill(store, key())
    flip(entry.path / "0.npy", -1)
    with pytest.warns(UserWarning, match="differs from its checksum"):
        assert fill(store, key())[1]
    assert store.find(key()) is not None


def test_an_entry_that_vanishes_while_it_is_read_is_missing_and_not_damaged(store, monkeypatch):
    fill(store, key())

    def check(folder):
        shutil.rmtree(folder)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "0.npy")

    monkeypatch.setattr("thawlab.data.feature_store.store.check_entry", check)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.find(key()) is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.ENOMEM], ids=errno.errorcode.get)
def test_an_entry_that_cannot_be_read_just_now_is_left_alone(store, monkeypatch, number):
    entry, _ = fill(store, key())
    with monkeypatch.context() as patch:

        def refuse(*_):
            raise OSError(number, os.strerror(number), str(entry.path / "0.npy"))

        patch.setattr("thawlab.data.feature_store.store.check_entry", refuse)
        with pytest.warns(UserWarning, match=f"0.npy cannot be read: {os.strerror(number)}; the entry is left alone"):
            assert store.find(key()) is None
        warned = pytest.warns(UserWarning, match="the entry is left alone")
        with warned, pytest.raises(CacheUnavailable, match="there is one that cannot be used"):
            fill(store, key())
    assert store.find(key()) is not None


def test_a_broken_disk_is_damage_and_no_crash(store, monkeypatch):
    entry, _ = fill(store, key())

    def pread(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", pread)
    with pytest.warns(UserWarning, match="an array cannot be read: Input/output error; the entry is removed"):
        assert store.find(key()) is None
    assert not entry.path.exists()


def test_after_kill_9_while_filling_the_next_one_succeeds(store):
    process = start(store, key(), mode="held")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    half = store.root / f"{store.name(key())}.part-{process.pid}"
    assert half.is_dir()
    assert store.find(key()) is None
    assert store.entries() == []
    assert half.is_dir()  # its process lives
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert half.is_dir()
    entry, made = fill(store, key(), wait_seconds=5)
    assert made
    assert is_right(entry)
    assert folders(store) == {store.name(key())}


@pytest.mark.parametrize("who", ["entries", "a writer of another key"])
def test_what_a_killed_process_left_is_removed_by_whoever_comes_next(store, who):
    process = start(store, key(), mode="held")
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    gone = store.root / f"{store.name(key(depth=1))}.gone-1-2"  # killed while it removed an entry
    gone.mkdir()
    if who == "entries":
        assert store.entries() == []
        assert folders(store) == set()
    else:
        fill(store, key(depth=2))
        assert folders(store) == {store.name(key(depth=2))}


def test_of_two_processes_one_fills_and_the_other_waits_and_reads_the_same(store):
    first = start(store, key(), seed=1, mode="held")
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    second = start(store, key(), seed=2)
    assert second.stdout is not None
    waits = second.stdout.readline()
    assert waits == (
        f"another process is filling {store.root / store.name(key())}; this one waits for it, 3600 s at most\n"
    )
    (one, _), (two, said) = answer(first, "\n\n"), answer(second)
    assert (one["made"], two["made"]) == (True, False)
    assert said == []
    assert one["bytes"] == two["bytes"] == [array.tobytes().hex() for array in values(seed=1)]
    (entry,) = store.entries()
    assert entry.hits == 1


def test_of_processes_that_begin_together_exactly_one_fills(store):
    processes = [start(store, key(), seed, "together") for seed in range(3)]
    store.root.mkdir()
    (store.root / "go").touch()
    answers = [answer(process)[0] for process in processes]
    assert sum(each["made"] for each in answers) == 1
    assert len({tuple(each["bytes"]) for each in answers}) == 1
    assert folders(store) == {store.name(key())}


def test_a_wait_that_takes_too_long_ends(store):
    said = []
    waiting = FeatureStore(store.root, PLENTY, said.append)
    with store.writing(key(), ROWS, ARRAYS) as writer:
        for seconds, lines in ((0, 0), (0.1, 0), (1.2, 1)):
            with pytest.raises(CacheUnavailable, match=f"another process is filling .*not ready after {seconds:g} s"):
                fill(waiting, key(), wait_seconds=seconds)
            assert len(said) == lines
        writer.write(0, values())
    assert not fill(waiting, key())[1]


def test_two_processes_fill_different_entries_and_an_old_one_makes_room_once(store):
    store.max_bytes = 2 * BYTES
    for depth in (1, 2):
        fill(store, key(depth=depth))
    processes = [start(store, key(depth=depth), depth, "together") for depth in (3, 4)]
    (store.root / "go").touch()
    read = [answer(process)[0] for process in processes]
    assert [each["bytes"] for each in read] == [[array.tobytes().hex() for array in values(seed)] for seed in (3, 4)]
    assert folders(store) == {store.name(key(depth=depth)) for depth in (3, 4)}
    assert sum(each.bytes for each in store.entries()) <= store.max_bytes


def refusing(monkeypatch, number: int, module: object, name: str, calls: int = 1) -> None:
    """From the given call on, the function fails as the file system would make it fail."""
    real, made = getattr(module, name), []

    def call(*args, **kwargs):
        made.append(args)
        if len(made) >= calls:
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        (os, "mkdir", 1),
        (os, "posix_fallocate", 1),
        (os, "posix_fallocate", 2),
        (os, "pwrite", 1),
        (os, "pwrite", 5),
        (os, "fsync", 1),
        (os, "fsync", 4),
        (os, "rename", 1),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_whatever_the_disk_refuses_while_filling_means_uncached_and_leaves_nothing(
    store, monkeypatch, number, module, name, calls
):
    store.root.parent.mkdir(exist_ok=True)
    with monkeypatch.context() as patch:
        refusing(patch, number, module, name, calls)
        with pytest.raises(CacheUnavailable, match=f"cache.dir={store.root}: {os.strerror(number)}; set cache.dir"):
            fill(store, key())
    assert folders(store) == set()
    assert store.find(key()) is None
    assert fill(store, key(), wait_seconds=0)[1]


def test_a_disk_that_cannot_set_space_aside_does_no_harm(store, monkeypatch):
    refusing(monkeypatch, errno.EOPNOTSUPP, os, "posix_fallocate")
    entry, _ = fill(store, key())
    assert is_right(entry)


def test_a_disk_with_too_little_space_is_refused_before_anything_is_removed(store, monkeypatch):
    fill(store, key(depth=1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1_000_000, 0, 10_000 + 100))
    refusal = r"it needs 25\.5 kB, and the disk of cache\.dir=.* has 100 bytes to spare"
    with pytest.raises(CacheUnavailable, match=refusal), store.writing(key(depth=2), 4 * ROWS, ARRAYS):
        pytest.fail("it was let in")
    assert store.has(key(depth=1))


def test_entries_make_room_on_a_disk_that_is_nearly_full(store, monkeypatch):
    for depth in (1, 2, 3):
        fill(store, key(depth=depth))

    def usage(_):
        held = sum(path.stat().st_size for path in store.root.rglob("*.npy"))
        return Usage(100_000, held, 1000 + max(0, 3 * BYTES - held))  # 1 % is left to others

    monkeypatch.setattr(shutil, "disk_usage", usage)
    fill(store, key(depth=4))
    assert [store.has(key(depth=depth)) for depth in (1, 2, 3, 4)].count(True) == 3
    assert store.has(key(depth=4))


ON_A_SMALL_DISK = """
import shutil, subprocess
from collections import namedtuple
from feature_entries_made import *
from thawlab.data.feature_store.store import CacheUnavailable

root = Path(sys.argv[1])
store = FeatureStore(root, PLENTY)
fill(store, key())

def refused(rows):
    try:
        with store.writing(key(depth=2), rows, ARRAYS):
            print("let in")
    except CacheUnavailable as error:
        print(error)

refused(100 * ROWS)
real = shutil.disk_usage
shutil.disk_usage = lambda _: namedtuple("Usage", "total used free")(10**12, 0, 10**12)  # as a quota hides it
refused(100 * ROWS)
shutil.disk_usage = real
subprocess.run(["mount", "-o", "remount,ro", root], check=True)
refused(ROWS)
print(sum(path.is_dir() for path in root.iterdir()), store.find(key()) is not None, store.entries()[0].hits)
"""


def test_a_real_disk_that_is_full_or_read_only(tmp_path):
    import thawlab

    mounted = 'mount -t tmpfs -o size=300000 tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", mounted, "sh", str(tmp_path), sys.executable, ON_A_SMALL_DISK]
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(thawlab.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": paths}
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if result.stdout == "" and ("mount:" in result.stderr or "unshare:" in result.stderr):
        pytest.skip(result.stderr)
    assert result.stderr == ""
    too_large, full, read_only, left = result.stdout.splitlines()
    assert "it needs 630.3 kB, and the disk of cache.dir=" in too_large
    assert "No space left on device; set cache.dir" in full
    assert "Read-only file system; set cache.dir" in read_only
    assert left == "1 True 0"


def test_a_folder_that_may_not_be_written_to_gives_hits_and_refuses_new_entries(store):
    fill(store, key())
    for path in (store.root / store.name(key()) / "used", store.root / store.name(key()), store.root):
        path.chmod(path.stat().st_mode & ~0o222)
    if os.access(store.root, os.W_OK):
        pytest.skip("permissions do not bind root")
    try:
        assert store.find(key()) is not None
        assert store.entries()[0].hits == 0
        with pytest.raises(CacheUnavailable, match="Permission denied"):
            fill(store, key(depth=2))
    finally:
        store.root.chmod(0o755)
        (store.root / store.name(key())).chmod(0o755)


def test_a_read_only_disk_gives_hits_and_refuses_new_entries(store, monkeypatch):
    entry, _ = fill(store, key())
    before = sorted(path for path in store.root.rglob("*"))
    real = os.open

    def read_only(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", read_only)
    for name in ("mkdir", "rename", "unlink", "rmdir"):
        refusing(monkeypatch, errno.EROFS, os, name)
    found = store.find(key())
    assert found is not None
    assert is_right(found)
    with pytest.raises(CacheUnavailable, match="Read-only file system; set cache"):
        fill(store, key(depth=2))
    assert [each.hits for each in store.entries()] == [0]
    assert sorted(path for path in store.root.rglob("*")) == before
    monkeypatch.undo()
    flip(entry.path / "0.npy", -1)
    monkeypatch.setattr(os, "open", read_only)
    refusing(monkeypatch, errno.EROFS, os, "rename")
    with pytest.warns(UserWarning, match="differs from its checksum"):  # refused, though it cannot be removed
        assert store.find(key()) is None


def test_a_folder_that_cannot_be_made_means_uncached(tmp_path):
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "cache"):
        store = FeatureStore(root, PLENTY)
        assert store.find(key()) is None
        assert store.entries() == []
        with pytest.raises(CacheUnavailable, match=f"cache.dir={root}: (File exists|Not a directory)"):
            fill(store, key())


def test_a_cache_that_is_removed_while_it_is_filled_means_uncached(store):
    gone = pytest.raises(CacheUnavailable, match="No such file or directory")
    with gone, store.writing(key(), ROWS, ARRAYS) as writer:
        writer.write(0, values())
        shutil.rmtree(store.root)
    assert fill(store, key())[1]
