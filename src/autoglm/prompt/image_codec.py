"""Encoded image files to RGB pixels, with limits checked before anything is decoded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from autoglm.errors import ImageError
from autoglm.prompt.image_header import ImageHeader, read_header


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an encoded image may be: file size in bytes, area in pixels, longer side over shorter side."""

    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    max_aspect_ratio: float = 200.0


def encoded_digest(data: bytes) -> bytes:
    """sha-256 of the encoded file: equal digests need no second decoding."""
    return hashlib.sha256(data).digest()


def decode_image(data: bytes, limits: ImageLimits | None = None, *, field: str = "image") -> NDArray[np.uint8]:
    """Decode a PNG, JPEG or WebP file to uint8 ``[height, width, 3]`` RGB.

    EXIF orientation is applied, then the mode is converted as ``PIL.Image.convert("RGB")`` does: alpha is
    dropped, not blended. 16-bit grey is scaled to 8 bits. Of an animation the first frame is taken.

    Raises:
        ImageError: unknown format, over a limit (which it names with the value found), empty, or damaged.
    """
    header = _checked_header(data, limits or ImageLimits(), field)
    try:
        with _open(header.format, data) as image:
            if image.size != (header.width, header.height):
                raise ImageError(
                    f"{field}: the file contradicts itself about its size",
                    field=field,
                    limit=f"{header.width}x{header.height}",
                    value=f"{image.width}x{image.height}",
                )
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(_to_rgb(image))
    except ImageError:
        raise
    except Exception as error:  # decoders meet hostile bytes and raise nearly anything for them
        raise ImageError(
            f"{field}: the {header.format} file is damaged or truncated: {error}",
            field=field,
            value=len(data),
        ) from error


def _checked_header(data: bytes, limits: ImageLimits, field: str) -> ImageHeader:
    if len(data) > limits.max_bytes:
        raise ImageError(
            f"{field}: {len(data)} bytes are over the limit of {limits.max_bytes}",
            field=field,
            limit=limits.max_bytes,
            value=len(data),
        )
    try:
        header = read_header(data)
    except ValueError as error:
        raise ImageError(f"{field}: the file is damaged or truncated: {error}", field=field, value=len(data)) from error
    if header is None:
        raise ImageError(
            f"{field}: not a PNG, JPEG or WebP file",
            field=field,
            limit="PNG, JPEG, WebP",
            value=data[:8].hex(),
        )
    size = f"{header.width}x{header.height}"
    if header.width < 1 or header.height < 1:
        raise ImageError(f"{field}: the image is empty ({size})", field=field, limit=1, value=size)
    if header.width * header.height > limits.max_pixels:
        raise ImageError(
            f"{field}: {size} pixels are over the limit of {limits.max_pixels}",
            field=field,
            limit=limits.max_pixels,
            value=header.width * header.height,
        )
    ratio = max(header.width, header.height) / min(header.width, header.height)
    if ratio > limits.max_aspect_ratio:
        raise ImageError(
            f"{field}: aspect ratio {ratio:.1f} of {size} is over the limit of {limits.max_aspect_ratio:g}",
            field=field,
            limit=limits.max_aspect_ratio,
            value=ratio,
        )
    return header


def _open(kind: str, data: bytes) -> Image.Image:
    # The plugin class itself, not Image.open: no other format can be reached, and the area check above
    # replaces the library's own, which warns on one threshold and raises on another.
    if kind == "PNG":
        return PngImageFile(BytesIO(data))
    if kind == "JPEG":
        return JpegImageFile(BytesIO(data))
    return WebPImageFile(BytesIO(data))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; convert("RGB") would clip it to white
        grey = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # same colours, without the library's warning
    return image.convert("RGB")
