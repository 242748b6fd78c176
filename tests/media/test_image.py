"""Reading pictures as they are meant to be seen."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from affetto.media.image import jpeg_bytes, load_image, png_bytes, save_png
from affetto.runtime.errors import InvalidInputError

RAMP = np.stack(np.meshgrid(np.arange(40) * 6, np.arange(30) * 8, indexing="xy"), axis=-1)
PIXELS = np.dstack([RAMP, np.full(RAMP.shape[:2], 90)]).astype(np.uint8)


def test_a_png_round_trip_is_exact_and_the_same_each_time(tmp_path):
    first, second = save_png(tmp_path / "a.png", PIXELS), save_png(tmp_path / "b.png", PIXELS)
    assert first.read_bytes() == second.read_bytes() == png_bytes(PIXELS)
    np.testing.assert_array_equal(load_image(first), PIXELS)


@pytest.mark.parametrize(("tag", "turn"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_applied(tmp_path, tag, turn):
    exif = Image.Exif()
    exif[0x0112] = tag
    stored = np.ascontiguousarray(np.rot90(PIXELS, -turn))
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), PIXELS)


def test_cmyk_becomes_rgb(tmp_path):
    Image.fromarray(PIXELS).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    pixels = load_image(tmp_path / "a.jpg")
    assert pixels.shape == PIXELS.shape
    assert np.abs(pixels.astype(int) - PIXELS).mean() < 4


def test_a_palette_becomes_rgb(tmp_path):
    Image.fromarray(PIXELS).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").shape == PIXELS.shape


def test_sixteen_bits_keep_their_contrast(tmp_path):
    deep = np.linspace(0, 65_535, 256).reshape(16, 16).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    pixels = load_image(tmp_path / "a.png")
    assert (pixels.min(), pixels.max()) == (0, 255)
    np.testing.assert_allclose(pixels[..., 0], deep / 257, atol=1)


def test_a_dark_sixteen_bit_picture_stays_dark(tmp_path):
    Image.fromarray(np.full((4, 4), 200, np.uint16)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").max() <= 1


def test_transparency_lies_over_white(tmp_path):
    layer = np.dstack([PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)])
    Image.fromarray(layer).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").min() == 255


def test_grey_and_one_bit_pictures_get_three_channels(tmp_path):
    for mode in ("L", "1"):
        Image.fromarray(PIXELS).convert(mode).save(tmp_path / "a.png")
        assert load_image(tmp_path / "a.png").shape == PIXELS.shape


def bomb(path, side: int) -> None:
    """A tiny PNG whose header claims side x side pixels."""
    buffer = io.BytesIO()
    Image.new("1", (8, 8)).save(buffer, format="PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(bytes(content))


BAD = {
    "missing": (lambda path: None, "no such file"),
    "empty": (lambda path: path.touch(), "empty"),
    "text": (lambda path: path.write_text("not a picture"), "is text"),
    "noise": (lambda path: path.write_bytes(b"\x89\x00\x01noise" * 50), "not a picture"),
    "cut PNG": (
        lambda path: path.write_bytes(
            png_bytes(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))[:3000]
        ),
        "cut off",
    ),
    "cut JPEG": (
        lambda path: path.write_bytes(
            jpeg_bytes(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))[:2000]
        ),
        "cut off",
    ),
    "huge": (lambda path: bomb(path, 9000), "81 Mpx"),
    "absurd": (lambda path: bomb(path, 60_000), "pixels|Mpx|damaged"),
    "gif": (lambda path: Image.fromarray(PIXELS).save(path, format="GIF"), "not a picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_refused_in_one_line(tmp_path, name):
    make, message = BAD[name]
    path = tmp_path / "face.png"
    make(path)
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_image(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
