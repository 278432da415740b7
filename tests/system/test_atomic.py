import os
import signal
import time

import pytest

from thawlab.system.atomic import remove_partial, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole_from_a_text_bytes_or_what_writes_it(tmp_path):
    path = tmp_path / "made" / "file"
    for content, expected in (("ä", "ä".encode()), (b"\0", b"\0"), (lambda file: file.write(b"12"), b"12")):
        write_atomically(path, content)
        assert path.read_bytes() == expected
    assert names(path.parent) == ["file"]


def test_a_disk_that_fills_up_leaves_what_was_there_and_nothing_half_written(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "before")

    def fill(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fill)
    assert path.read_text() == "before"
    assert names(tmp_path) == ["file"]


def test_a_process_that_is_killed_while_it_writes_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "before")

    def stall(file):
        file.write(b"half")
        file.flush()
        time.sleep(60)

    child = os.fork()
    if child == 0:
        write_atomically(path, stall)
        os._exit(0)
    while not list(tmp_path.glob("*.part")) or not next(tmp_path.glob("*.part")).stat().st_size:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert path.read_text() == "before"
    (tmp_path / "a.part").touch()  # somebody else's
    remove_partial(tmp_path)
    assert names(tmp_path) == ["a.part", "file"]
