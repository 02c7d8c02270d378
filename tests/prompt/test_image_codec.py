from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from autoglm.errors import ImageError
from autoglm.prompt import ImageLimits, decode_image, encoded_digest
from autoglm.prompt.image_header import read_header
from autoglm.prompt.synthetic_images import encode, screenshot


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = BytesIO()
    image.save(out, form, **options)  # type: ignore[arg-type]
    return out.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize("channels", [3, 4])
def test_lossless_round_trip(form: str, channels: int) -> None:
    pixels = screenshot(61, 37, channels)
    pixels[..., 3:] = 255
    decoded = decode_image(encode(pixels, form, **({"lossless": True} if form == "WEBP" else {})))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels[..., :3])


MODES = ["1", "L", "LA", "P", "RGB", "RGBA"]


@pytest.mark.parametrize("mode", MODES)
def test_png_modes_convert_as_pil_does(mode: str) -> None:
    source = Image.fromarray(screenshot(40, 30, 4, seed=3)).convert("RGBA")
    data = saved(source.convert(mode))
    opened = Image.open(BytesIO(data))
    if mode == "P":
        opened = opened.convert("RGBA")  # the way without a warning; colours are the same
    np.testing.assert_array_equal(decode_image(data), np.asarray(opened.convert("RGB")))


def test_transparency_is_dropped_not_blended() -> None:
    pixels = screenshot(20, 20, 4, seed=1)
    pixels[..., 3] = 10
    np.testing.assert_array_equal(decode_image(encode(pixels)), pixels[..., :3])


def test_palette_with_transparency() -> None:
    image = Image.fromarray(screenshot(24, 24)).convert("P")
    data = saved(image, transparency=bytes(range(256)))
    np.testing.assert_array_equal(decode_image(data), np.asarray(image.convert("RGB")))


def test_sixteen_bit_grey_is_scaled() -> None:
    grey = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    decoded = decode_image(saved(Image.fromarray(grey)))
    np.testing.assert_array_equal(decoded[0, :, 0], [0, 0, 1, 128, 255])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_modes(mode: str) -> None:
    data = saved(Image.fromarray(screenshot(48, 32)).convert(mode), "JPEG", quality=90)
    np.testing.assert_array_equal(decode_image(data), np.asarray(Image.open(BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(screenshot(33, 50), form, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(decode_image(data), np.asarray(expected))


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_first_frame_of_an_animation(form: str) -> None:
    frames = [Image.fromarray(screenshot(32, 32, seed=s)) for s in (1, 2)]
    lossless = {"lossless": True} if form == "WEBP" else {}
    data = saved(frames[0], form, save_all=True, append_images=frames[1:], **lossless)
    np.testing.assert_array_equal(decode_image(data), np.asarray(frames[0]))


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("WEBP", {"lossless": True})],
)
def test_header_sizes(form: str, options: dict[str, bool]) -> None:
    header = read_header(encode(screenshot(123, 77), form, **options))
    assert header is not None
    assert (header.format, header.width, header.height) == (form, 77, 123)


def test_extended_webp_header() -> None:
    data = encode(screenshot(50, 60, 4), "WEBP", exif=b"Exif\0\0")
    assert data[12:16] == b"VP8X"
    header = read_header(data)
    assert header is not None
    assert (header.width, header.height) == (60, 50)


def test_hundred_megapixels_are_refused_from_the_header() -> None:
    with pytest.raises(ImageError) as error:
        decode_image(png_of_size(10_000, 10_000))
    assert (error.value.limit, error.value.value) == (50_000_000, 100_000_000)


def test_zero_size_is_refused() -> None:
    with pytest.raises(ImageError, match="empty"):
        decode_image(png_of_size(0, 10))


def test_aspect_ratio_is_refused() -> None:
    with pytest.raises(ImageError) as error:
        decode_image(encode(np.zeros((1, 201, 3), dtype=np.uint8)))
    assert (error.value.limit, error.value.value) == (200.0, 201.0)
    decode_image(encode(np.zeros((1, 200, 3), dtype=np.uint8)))


def test_too_many_bytes() -> None:
    data = encode(screenshot(20, 20))
    with pytest.raises(ImageError) as error:
        decode_image(data, ImageLimits(max_bytes=len(data) - 1), field="messages[0].content[1]")
    assert (error.value.field, error.value.limit, error.value.value) == (
        "messages[0].content[1]",
        len(data) - 1,
        len(data),
    )


@pytest.mark.parametrize("data", [b"", b"hello", b"GIF89a" + bytes(50), b"BM" + bytes(80)])
def test_unknown_formats(data: bytes) -> None:
    with pytest.raises(ImageError, match="not a PNG, JPEG or WebP"):
        decode_image(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_truncated_files(form: str, share: float) -> None:
    data = encode(screenshot(64, 64), form)
    with pytest.raises(ImageError):
        decode_image(data[: max(1, int(len(data) * share))])


def test_decompression_bomb_in_pixels_that_lie() -> None:
    with pytest.raises(ImageError, match="damaged or truncated"):
        decode_image(png_of_size(4000, 4000))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255))))
@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated", "ignore:Image appears")
def test_damaged_bytes_decode_or_raise_image_error(form: str, edits: list[tuple[float, int]]) -> None:
    data = bytearray(encode(screenshot(24, 24), form))
    for place, value in edits:
        data[int(place * len(data))] = value
    try:
        pixels = decode_image(bytes(data), ImageLimits(max_pixels=10_000))
    except ImageError:
        return
    assert pixels.shape[2] == 3


def test_digest_is_of_the_encoded_bytes() -> None:
    assert encoded_digest(b"a") != encoded_digest(b"b")
    assert len(encoded_digest(b"a")) == 32
