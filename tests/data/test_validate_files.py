import hashlib
import io
import os
import socket
import struct
import zlib
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from thawlab.data.changed_images import ImageChangedError
from thawlab.data.decoding import FileReader, decode
from thawlab.data.validate_files import Checked, check_file, check_files


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)
    return path


def huge_png(side: int) -> bytes:
    """A few bytes that claim to be an image of side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_a_sound_image_has_a_hash_of_its_bytes_and_no_problem(photo):
    assert check_file(str(photo)) == Checked(hashlib.sha256(photo.read_bytes()).hexdigest()[:32], "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_truncated_file_is_found(tmp_path, kind):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(buffer, kind)
    path = tmp_path / "cut"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    assert check_file(str(path)).problem != ""


def test_what_is_wrong_with_a_file_is_said(tmp_path, photo):
    (tmp_path / "text.jpg").write_text("not an image at all")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes(photo.read_bytes()[:1000])
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "huge.png").write_bytes(huge_png(20_000))
    names = ["text.jpg", "empty.jpg", "cut.jpg", "nowhere.jpg", "huge.png", "never.jpg"]
    problems = [check_file(str(tmp_path / name)).problem for name in names]
    assert problems[0] == "not an image"
    assert problems[1] == "an empty file"
    assert problems[2].startswith("damaged: image file is truncated")
    assert problems[3] == "a link to nowhere"
    assert problems[4] == (
        "too large: 20000 × 20000 pixels take 3.2 GB; make it smaller, or allow it by dataset.max_pixels=400000000"
    )
    assert problems[5] == "no such file or directory"


def test_a_file_that_may_not_be_read_is_a_problem_and_no_crash(photo, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.open", refuse)
    assert check_file(str(photo)) == Checked("", "permission denied")


def test_random_damage_never_raises(photo):
    random = np.random.default_rng(0)
    for data in (photo.read_bytes(), _png_of(photo)):
        for _ in range(60):
            damaged = bytearray(data)
            for position in random.integers(0, len(data), 20):
                damaged[position] = random.integers(256)
            photo.write_bytes(bytes(damaged))
            assert isinstance(check_file(str(photo)).problem, str)


def _png_of(photo: Path) -> bytes:
    buffer = io.BytesIO()
    with Image.open(photo) as image:
        image.save(buffer, "PNG")
    return buffer.getvalue()


def test_results_come_in_the_order_of_the_files(tmp_path, photo):
    paths = []
    for i in range(50):
        path = tmp_path / f"{i}.bin"
        path.write_bytes(photo.read_bytes() if i % 3 else b"")
        paths.append(str(path))
    assert [found.problem for found in check_files(paths)] == ["" if i % 3 else "an empty file" for i in range(50)]


def test_no_files_are_no_results():
    assert check_files([]) == []


def test_only_a_long_check_on_a_terminal_shows_a_bar(photo, monkeypatch, capfd):
    check_files([str(photo)])
    monkeypatch.setattr("thawlab.data.validate_files._SILENT_SECONDS", 0.0)
    check_files([str(photo)] * 5)  # not a terminal
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # how rich is told that it writes to one
    monkeypatch.setenv("RANK", "1")
    check_files([str(photo)] * 5)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    check_files([str(photo)] * 5)
    out, err = capfd.readouterr()
    assert out == ""
    assert "checking images" in err
    assert err.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")  # the bar is wiped and the cursor shown again


@pytest.mark.skipif("THAWLAB_PHOTOS" not in os.environ, reason="THAWLAB_PHOTOS names no folder of photographs")
def test_all_photographs_are_sound():
    paths = [str(path) for path in Path(os.environ["THAWLAB_PHOTOS"]).rglob("*.jpg")]
    found = check_files(paths)
    assert paths
    assert [path for path, each in zip(paths, found, strict=True) if each.problem] == []


def test_nothing_but_files_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        found = [check_file(str(tmp_path / name)).problem for name in ("pipe.jpg", "zero.png", "socket.png")]
    assert found == ["a pipe, no file", "a device, no file", "a socket, no file"]


def test_a_pipe_in_the_place_of_an_image_is_told_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageChangedError, match=r"pipe\.jpg: a pipe, no file, since the run began; put it back"):
        FileReader((str(tmp_path / "pipe.jpg"),))(0)


def test_postscript_called_an_image_is_not_given_to_ghostscript(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("it was"))
    (tmp_path / "a.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"
    )
    assert check_file(str(tmp_path / "a.jpg")).problem == "not an image"


def test_how_many_pixels_are_allowed_is_up_to_the_user_and_less_where_decoders_take_more(tmp_path):
    for name in ("a.png", "a.webp"):
        Image.new("RGB", (30, 20)).save(tmp_path / name)
    problems = {
        (name, limit): check_file(str(tmp_path / name), limit).problem
        for name, limit in (("a.png", 599), ("a.png", 600), ("a.webp", 600), ("a.webp", 1200))
    }
    assert {case for case, problem in problems.items() if not problem} == {("a.png", 600), ("a.webp", 1200)}
    assert problems["a.webp", 600].endswith("or allow it by dataset.max_pixels=1200")


def test_a_file_much_longer_than_any_image_is_not_read(tmp_path):
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert check_file(str(path)).problem == "too large: a file of 1099.5 GB; cut it, or raise dataset.max_pixels"


def test_a_long_file_is_hashed_and_checked_in_parts(tmp_path, photo, monkeypatch):
    monkeypatch.setattr("thawlab.data.safe_open._IN_MEMORY", 1000)
    assert check_file(str(photo)) == Checked(hashlib.sha256(photo.read_bytes()).hexdigest()[:32], "")


@pytest.mark.parametrize("last", [False, True])
def test_a_png_with_a_long_text_or_profile_is_sound(tmp_path, last):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "x" * 3_000_000, zip=True)
    image.save(tmp_path / "text.png", pnginfo=texts)
    image.save(tmp_path / "profile.png", icc_profile=bytes(3_000_000))
    if last:  # behind the pixels, where it is read only once they are
        data = (tmp_path / "text.png").read_bytes()
        begin, end = data.index(b"zTXt") - 4, data.index(b"IDAT") - 4
        (tmp_path / "text.png").write_bytes(data[:begin] + data[end:-12] + data[begin:end] + data[-12:])
    for name in ("text.png", "profile.png"):
        assert check_file(str(tmp_path / name)).problem == ""
        assert np.array_equal(np.asarray(decode(tmp_path / name)), np.asarray(image))


def test_large_images_are_decoded_one_at_a_time_and_in_the_memory_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("thawlab.data.validate_files._LARGE", 100)
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    gate = MagicMock()
    monkeypatch.setattr("thawlab.data.validate_files._ONE_LARGE", gate)
    monkeypatch.setattr("thawlab.data.decoding.to_srgb", lambda _: pytest.fail("it was converted as a whole"))
    check_file(str(tmp_path / "a.png"))
    assert gate.__enter__.call_count == 1
