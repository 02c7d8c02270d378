"""Format and size of an encoded image from its first bytes, before any decoder is trusted with it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# JPEG start-of-frame markers: 0xC0-0xCF without DHT (C4), JPG (C8) and DAC (CC) (ITU-T T.81, table B.1).
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """``format`` is ``PNG``, ``JPEG`` or ``WEBP``; sizes in pixels, before EXIF orientation."""

    format: str
    width: int
    height: int


def read_header(data: bytes) -> ImageHeader | None:
    """The header, or ``None`` for any other format.

    Raises:
        ValueError: one of the three formats, but cut short or damaged before its size.
    """
    try:
        if data.startswith(_PNG):
            width, height = struct.unpack_from(">II", data, 16)
            return ImageHeader("PNG", width, height)
        if data.startswith(_JPEG):
            return ImageHeader("JPEG", *_jpeg_size(data))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return ImageHeader("WEBP", *_webp_size(data))
    except (struct.error, IndexError) as error:
        raise ValueError("the file ends inside its header") from error
    return None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    while True:
        if data[position] != 0xFF:
            raise ValueError(f"no JPEG marker at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker in _STANDALONE:
            position += 2
        elif marker in _SOF:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        else:
            (length,) = struct.unpack_from(">H", data, position + 2)
            if length < 2:
                raise ValueError(f"JPEG segment of length {length} at byte {position}")
            position += 2 + length


def _webp_size(data: bytes) -> tuple[int, int]:
    """Canvas size by the kind of the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            int.from_bytes(_exactly(data, 24, 3), "little") + 1,
            int.from_bytes(_exactly(data, 27, 3), "little") + 1,
        )
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError(f"unknown first WebP chunk {kind!r}")


def _exactly(data: bytes, start: int, count: int) -> bytes:
    piece = data[start : start + count]
    if len(piece) < count:
        raise IndexError(start + count)
    return piece
