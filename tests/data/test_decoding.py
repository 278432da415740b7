import io
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from torch.utils.data import DataLoader, Dataset

from thawlab.data.changed_images import ImageChangedError
from thawlab.data.decoding import ArrayReader, FileReader, check, decode
from thawlab.data.images import bytes_hash

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = np.random.default_rng(1).integers(0, 256, (6, 9), dtype=np.uint8)
ALPHA = np.random.default_rng(2).integers(0, 256, (6, 9), dtype=np.uint8)


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def saved(image: Image.Image, kind: str, **options) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return buffer


def grey_as_rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2).astype(int)


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {"lossless": True})]
)
def test_a_lossless_rgb_file_comes_out_as_it_went_in(kind, options):
    assert np.array_equal(pixels(decode(saved(Image.fromarray(RGB), kind, **options))), RGB)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_lossy_file_comes_out_nearly_as_it_went_in(kind):
    smooth = np.linspace(0, 255, 32 * 48 * 3).reshape(32, 48, 3).astype(np.uint8)
    found = pixels(decode(saved(Image.fromarray(smooth), kind, quality=95)))
    assert found.shape == smooth.shape
    assert np.abs(found - smooth).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_grey_becomes_three_equal_channels(kind):
    assert np.array_equal(pixels(decode(saved(Image.fromarray(GREY), kind))), grey_as_rgb(GREY))


def test_black_and_white_becomes_0_and_255():
    bits = GREY > 127
    assert np.array_equal(pixels(decode(saved(Image.fromarray(bits), "PNG"))), grey_as_rgb(bits * 255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_whole_range(kind):
    values = np.array([[0, 128, 129, 257], [0x00FF, 0x1234, 0xFF00, 0xFFFF]], dtype=np.uint16)
    found = pixels(decode(saved(Image.fromarray(values), kind)))
    assert np.array_equal(found, grey_as_rgb(np.round(values / 257)))
    assert found.max() == 255


def test_big_endian_16_bit_grey_is_read_the_same():
    values = np.array([[0, 257, 0x1234, 0xFFFF]], dtype=np.uint16)
    image = Image.frombytes("I;16B", (4, 1), values.astype(">u2").tobytes())
    assert np.array_equal(pixels(decode(saved(image, "TIFF"))), grey_as_rgb(np.round(values / 257)))


def test_32_bit_and_floating_point_pixels_are_refused():
    wide = Image.fromarray(np.array([[0, 1_000_000]], dtype=np.int32))
    with pytest.raises(ValueError, match="32-bit pixels have no defined range; convert"):
        decode(saved(wide, "TIFF"))
    with pytest.raises(ValueError, match="floating-point pixels have no defined range; convert"):
        decode(saved(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF"))


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_transparency_is_laid_on_white(kind, options):
    image = Image.fromarray(np.dstack([RGB, ALPHA]))
    assert image.mode == "RGBA"
    assert np.abs(pixels(decode(saved(image, kind, **options))) - on_white(RGB, ALPHA)).max() <= 1


def test_transparent_grey_is_laid_on_white():
    image = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    assert np.abs(pixels(decode(saved(image, "PNG"))) - on_white(grey_as_rgb(GREY), ALPHA)).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_a_palette_is_looked_up(kind):
    colours = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30]], dtype=np.uint8)
    chosen = np.arange(12).reshape(3, 4) % 3
    image = Image.fromarray(chosen.astype(np.uint8), "P")
    image.putpalette(colours.tobytes())
    assert np.array_equal(pixels(decode(saved(image, kind))), colours[chosen])


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(kind):
    colours = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30]], dtype=np.uint8)
    chosen = np.arange(12).reshape(3, 4) % 3
    image = Image.fromarray(chosen.astype(np.uint8), "P")
    image.putpalette(colours.tobytes())
    expected = colours.copy()
    expected[1] = 255
    assert np.array_equal(pixels(decode(saved(image, kind, transparency=1))), expected[chosen])


def test_a_transparent_colour_of_an_rgb_png_becomes_white():
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    assert pixels(decode(saved(image, "PNG", transparency=(1, 2, 3)))).tolist() == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk_becomes_rgb(kind):
    ink = np.zeros((16, 16, 4), dtype=np.uint8)
    ink[..., 0] = 255  # full cyan: no red
    ink[:8, :, 3] = 255  # full black in the upper half
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    found = pixels(decode(saved(Image.fromarray(ink, "CMYK"), kind, **options)))
    expected = (255 - ink[..., :3].astype(int)) * (255 - ink[..., 3:].astype(int)) // 255
    assert np.abs(found - expected).max() <= 3


def rotated(turn) -> np.ndarray:
    """An image that is mostly black with a white upper left corner, turned."""
    upright = np.zeros((16, 24, 3), dtype=np.uint8)
    upright[:8, :8] = 255
    return turn(upright)


# How a camera stored the picture, by the EXIF standard's table; decoding has to undo it.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_an_exif_orientation_is_undone(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(rotated(STORED[orientation])))
    options = {"compression": "raw"} if kind == "TIFF" else {"lossless": True} if kind == "WEBP" else {}
    found = pixels(decode(saved(stored, kind, exif=exif, **options)))
    assert found.shape == (16, 24, 3)
    assert np.abs(found - rotated(STORED[1])).max() <= 12


def test_unreadable_exif_data_leaves_the_picture_as_it_is():
    file = saved(Image.fromarray(RGB), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nonsense")
    assert np.array_equal(pixels(decode(file)), RGB)


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.fromarray(np.full((4, 4), value, dtype=np.uint8)) for value in (10, 200)]
    file = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(pixels(decode(file)), np.full((4, 4, 3), 10))


def test_the_check_finds_every_truncation_that_decoding_finds():
    whole = saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)), "JPEG")
    data = whole.getvalue()

    def sound(length: int, read: Callable) -> bool:
        try:
            read(io.BytesIO(data[:length]))
        except OSError:
            return False
        return True

    lengths = [*range(1, len(data), 97), len(data) - 10, len(data)]
    checked = [sound(n, lambda file: check(file, 10_000, lambda _: nullcontext())) for n in lengths]
    assert checked == [sound(n, decode) for n in lengths] == [n == len(data) for n in lengths]


def test_readers_can_be_sent_to_another_process(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    reader = pickle.loads(pickle.dumps(FileReader((str(path),))))
    assert np.array_equal(pixels(reader(0)), RGB)
    grey = pickle.loads(pickle.dumps(ArrayReader(GREY[None])))
    assert np.array_equal(pixels(grey(0)), grey_as_rgb(GREY))


def test_a_profile_counts_in_every_format_that_carries_one():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()  # for other pixels: passed over
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        file = saved(Image.fromarray(RGB), kind, icc_profile=profile)
        with Image.open(file) as image:
            assert image.info["icc_profile"] == profile
        file.seek(0)
        assert decode(file).size == (9, 6)


def test_a_file_that_changed_since_its_hash_was_taken_is_told(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    reader = FileReader((str(path),), hashes=(bytes_hash(path.read_bytes()),))
    assert np.array_equal(pixels(reader(0)), RGB)
    Image.fromarray(255 - RGB).save(path)
    with pytest.raises(ImageChangedError) as error:
        reader(0)
    assert str(error.value) == (
        f"{path}: the file has changed since the run began; start again when nothing writes to the images any more"
    )
    path.unlink()
    with pytest.raises(ImageChangedError, match="no such file or directory, since the run began; put it back"):
        reader(0)


def test_what_a_worker_says_of_a_changed_file_is_its_message_alone(tmp_path: Path):
    loader = DataLoader(Read(FileReader((str(tmp_path / "gone.png"),))), num_workers=1)
    with pytest.raises(ImageChangedError) as error:
        next(iter(loader))
    assert str(error.value) == f"{tmp_path / 'gone.png'}: no such file or directory, since the run began; put it back"


class Read(Dataset):
    def __init__(self, read: FileReader) -> None:
        self.read = read

    def __len__(self) -> int:
        return 1

    def __getitem__(self, position: int) -> Image.Image:
        return self.read(position)
