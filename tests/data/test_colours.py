import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from thawlab.data.colours import to_srgb

RNG = np.random.default_rng(0)
RGB = np.kron(RNG.integers(0, 256, (6, 9, 3)), np.ones((4, 4, 1))).astype(np.uint8)
ALPHA = RNG.integers(0, 256, RGB.shape[:2], dtype=np.uint8)
# Red, green and blue of the colour space as XYZ under D50, and its gamma.
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841), 2.2)
ADOBE_RGB = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446), 2.2)
SRGB_BYTES = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2."""
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(81), b"wtpt": xyz(WHITE), **tags}
    table, body, at = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s12x4s", at + len(body), b"none", 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    return head + bytes(28) + xyz(WHITE)[8:] + bytes(48) + struct.pack(">I", len(tags)) + table + body


WHITE = (0.9642, 1.0, 0.8249)


def xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma)) + b"\0\0"


def wide(red, green, blue, gamma) -> bytes:
    colours = {b"rXYZ": xyz(red), b"gXYZ": xyz(green), b"bXYZ": xyz(blue)}
    return profile(b"RGB ", {**colours, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma))})


GREY = profile(b"GRAY", {b"kTRC": curve(1.8)})


def with_profile(image: Image.Image, data: bytes) -> Image.Image:
    image.info["icc_profile"] = data
    return image


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def in_space(data: bytes) -> Image.Image:
    """The colours of `RGB` as they are written in a space that holds all of them."""
    space = ImageCms.ImageCmsProfile(io.BytesIO(data))
    found = ImageCms.profileToProfile(Image.fromarray(RGB), ImageCms.createProfile("sRGB"), space)
    assert found is not None
    return found


@pytest.mark.parametrize("space", [DISPLAY_P3, ADOBE_RGB])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_wider_space_is_brought_to_srgb(space, mode):
    image = in_space(wide(*space))
    expected = RGB.astype(float)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(ALPHA))
        expected = expected * ALPHA[..., None] / 255 + 255 - ALPHA[..., None].astype(float)
    found = pixels(to_srgb(with_profile(image, wide(*space))))
    assert np.abs(found - expected).mean() < 2
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - RGB).mean() > 4  # what ignoring it would give


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_with_another_gamma_is_brought_to_that_of_srgb(mode):
    grey = np.arange(256, dtype=np.uint8)[None]
    image = {
        "L": lambda: Image.fromarray(grey),
        "LA": lambda: Image.merge("LA", [Image.fromarray(grey), Image.new("L", (256, 1), 255)]),
        "I;16": lambda: Image.fromarray(grey.astype(np.uint16) * 257),
    }[mode]()
    linear = (grey[0] / 255) ** 1.8
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found = pixels(to_srgb(with_profile(image, GREY)))
    assert np.abs(found - expected[None, :, None]).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "CMYK", "1"])
@pytest.mark.parametrize("data", [SRGB_BYTES, b"no profile", b"", bytes(200), GREY[:200]])
def test_srgb_itself_and_what_is_no_profile_leave_every_bit_as_it_is(mode, data):
    image = Image.fromarray(RGB).convert(mode)
    assert np.array_equal(pixels(to_srgb(with_profile(image.copy(), data))), pixels(to_srgb(image)))


def test_a_profile_for_other_pixels_is_passed_over():
    for mode, data in (("RGB", GREY), ("CMYK", wide(*DISPLAY_P3))):
        image = Image.fromarray(RGB).convert(mode)
        assert np.array_equal(pixels(to_srgb(with_profile(image.copy(), data))), pixels(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "CMYK", "1", "I;16"])
def test_a_large_image_is_converted_in_bands_to_the_same_pixels(monkeypatch, mode):
    image = Image.fromarray(RGB).convert("L").convert("I").convert("I;16") if mode == "I;16" else None
    image = with_profile(image or Image.fromarray(RGB).convert(mode), wide(*ADOBE_RGB))
    if mode == "P":
        image.info["transparency"] = 3
    whole = pixels(to_srgb(image))
    monkeypatch.setattr("thawlab.data.colours._BAND", 5 * image.width)
    assert np.array_equal(pixels(to_srgb(image)), whole)
