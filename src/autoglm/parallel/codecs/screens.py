"""A screen as its difference from the one before; exact.

What changed is found patch by patch, joined to rectangles, and each rectangle is coded as a small picture: a filter a
row (as PNG does: none, left, above; and the old screen's pixel), then deflate. Without an old screen, or where all has
changed, there is one rectangle, and the code is about what PNG's would be.

Between nodes this carries a screenshot to where the vision encoder runs, when that node has the session's last one.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from autoglm.errors import InvalidInputError

Pixels = NDArray[np.uint8]

PATCH = 14
"""Pixels of a patch's side: that of the vision tower, so that patches which did not change need no encoding either."""
LEVEL = 6
MAX_SIDE = 16384
_HEAD = struct.Struct("<4sHHHHI")
_COUNT = struct.Struct("<I")
_BOX = struct.Struct("<HHHH")
_MAGIC = b"AGS1"
_NONE, _LEFT, _ABOVE, _OLD = range(4)


def changed_patches(new: Pixels, old: Pixels, patch: int = PATCH) -> NDArray[np.bool_]:
    """Which patches differ: ``[rows, columns]``; patches at the right and lower edges may be smaller."""
    differs = (new != old).any(-1)
    padded = np.pad(differs, [(0, -side % patch) for side in differs.shape])
    rows, columns = (side // patch for side in padded.shape)
    found: NDArray[np.bool_] = np.logical_or.reduce(padded.reshape(rows, patch, columns, patch), axis=(1, 3))
    return found


def encode_screen(new: Pixels, old: Pixels | None = None, patch: int = PATCH) -> bytes:
    """Code ``new``, uint8 ``[height, width, 3]``, for a peer that has ``old`` (which only helps if of equal size)."""
    _check(new)
    if old is not None and old.shape != new.shape:
        old = None
    height, width = new.shape[:2]
    whole = (0, 0, height, width)
    boxes = [whole] if old is None else _boxes(changed_patches(new, old, patch), patch, height, width)
    # Many small changes cost more as pieces than the screen as a whole, where neighbours help each other.
    candidates = [_coded(new, old, boxes)]
    if boxes and boxes != [whole] and sum(h * w for _, _, h, w in boxes) * 4 > height * width:
        candidates.append(_coded(new, old, [whole]))
    body = min(candidates, key=len)
    return _HEAD.pack(_MAGIC, height, width, patch, old is not None, zlib.crc32(new.tobytes())) + body


def decode_screen(message: bytes, old: Pixels | None = None) -> Pixels:
    """The screen that :func:`encode_screen` was given.

    Raises:
        InvalidInputError: not such a message, or ``old`` is not the screen it was coded against.
    """
    if len(message) < _HEAD.size or message[:4] != _MAGIC:
        raise InvalidInputError("not a coded screen", field="message", value=len(message))
    _, height, width, patch, needs_old, checksum = _HEAD.unpack_from(message)
    if max(height, width) > MAX_SIDE:
        raise InvalidInputError("the screen is too large", field="message", limit=MAX_SIDE, value=max(height, width))
    if needs_old and (old is None or old.shape != (height, width, 3)):
        raise InvalidInputError("this screen was coded against another, which is not at hand", field="old")
    out = old.copy() if needs_old and old is not None else np.zeros((height, width, 3), np.uint8)
    try:
        _decoded_into(out, message[_HEAD.size :], patch)
    except (zlib.error, struct.error, ValueError) as error:
        raise InvalidInputError(f"a coded screen is damaged: {error}", field="message") from error
    if zlib.crc32(out.tobytes()) != checksum:
        raise InvalidInputError("this screen was coded against another than the one at hand", field="old")
    return out


def _check(new: Pixels) -> None:
    if new.ndim != 3 or new.shape[2] != 3 or new.dtype != np.uint8 or not 0 < max(new.shape[:2]) <= MAX_SIDE:
        raise InvalidInputError(
            f"a screen is uint8 [height, width, 3] of at most {MAX_SIDE} pixels a side, got {new.dtype} {new.shape}",
            field="screen",
            limit=MAX_SIDE,
        )


def _boxes(changed: NDArray[np.bool_], patch: int, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Rectangles (top, left, height, width in pixels) that cover the changed patches once: runs along a row, joined
    with an equal run in the row above."""
    open_runs: dict[tuple[int, int], int] = {}
    found: list[tuple[int, int, int, int]] = []

    def close(run: tuple[int, int], first: int, last: int) -> None:
        top, left = first * patch, run[0] * patch
        found.append((top, left, min(last * patch, height) - top, min(run[1] * patch, width) - left))

    for row, line in enumerate(changed):
        edges = np.flatnonzero(np.diff(line.astype(np.int8), prepend=0, append=0))
        runs = {(int(a), int(b)) for a, b in edges.reshape(-1, 2)}
        for run in [run for run in open_runs if run not in runs]:
            close(run, open_runs.pop(run), row)
        for run in runs:
            open_runs.setdefault(run, row)
    for run, first in open_runs.items():
        close(run, first, len(changed))
    return sorted(found)


def _coded(new: Pixels, old: Pixels | None, boxes: list[tuple[int, int, int, int]]) -> bytes:
    """Number of boxes, the boxes, and their rows; the smallest over how filters are picked."""
    head = _COUNT.pack(len(boxes)) + b"".join(_BOX.pack(*box) for box in boxes)
    if not boxes:
        return zlib.compress(head, LEVEL)
    filtered = [_filtered(new, old, box) for box in boxes]
    choices: list[int | None] = [None, _NONE, _ABOVE] + ([_OLD] if old is not None else [])
    return min((zlib.compress(head + b"".join(_rows(f, c) for f in filtered), LEVEL) for c in choices), key=len)


def _filtered(new: Pixels, old: Pixels | None, box: tuple[int, int, int, int]) -> Pixels:
    """``[filters, height, width * 3]``: the rows of a box under each filter, modulo 256."""
    top, left, height, width = box
    cut = np.s_[top : top + height, left : left + width]
    pixels = new[cut]
    before = np.pad(pixels, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    above = np.pad(pixels, ((1, 0), (0, 0), (0, 0)))[:-1]
    choices = [pixels, pixels - before, pixels - above]
    if old is not None:
        choices.append(pixels - old[cut])
    return np.stack(choices).reshape(len(choices), height, width * 3)


def _rows(filtered: Pixels, choice: int | None) -> bytes:
    """Rows with their filter's number in front; ``None``: for each row the one with the smallest sum of sizes."""
    if choice is None:
        sizes = np.abs(filtered.view(np.int8).astype(np.int16)).sum(-1, dtype=np.int64)
        picked = sizes.argmin(0).astype(np.uint8)
    else:
        picked = np.full(filtered.shape[1], choice, np.uint8)
    rows = filtered[picked, np.arange(filtered.shape[1])]
    return np.concatenate([picked[:, None], rows], 1).tobytes()


def _decoded_into(out: Pixels, body: bytes, patch: int) -> None:
    height, width = out.shape[:2]
    if patch < 1:
        raise ValueError("patches without a side")
    plain = zlib.decompressobj()
    # At most a rectangle a patch, with a filter a row. A message that claims more is cut off here, not in memory.
    limit = _COUNT.size + height * width * 3 + -(-height // patch) * -(-width // patch) * (_BOX.size + patch)
    data = plain.decompress(body, limit)
    if not plain.eof:
        raise ValueError("its data is cut off, or more than a screen has")
    (count,) = _COUNT.unpack_from(data)
    boxes = [_BOX.unpack_from(data, _COUNT.size + i * _BOX.size) for i in range(count)]
    at = _COUNT.size + count * _BOX.size
    for top, left, rows, columns in boxes:
        if top + rows > height or left + columns > width:
            raise ValueError("a rectangle outside the screen")
        size = rows * (1 + 3 * columns)
        _unfilter(out[top : top + rows, left : left + columns], data[at : at + size])
        at += size
    if at != len(data):
        raise ValueError("length and rectangles disagree")


def _unfilter(target: Pixels, data: bytes) -> None:
    """``target`` holds the old screen's pixels and becomes the new one's."""
    rows, columns = target.shape[:2]
    lines = np.frombuffer(data, np.uint8).reshape(rows, 1 + 3 * columns)
    above = np.zeros((columns, 3), np.uint8)
    for row, line in enumerate(lines):
        pixels = line[1:].reshape(columns, 3)
        if line[0] == _LEFT:
            pixels = np.cumsum(pixels, 0, dtype=np.uint8)
        elif line[0] == _ABOVE:
            pixels = pixels + above
        elif line[0] == _OLD:
            pixels = pixels + target[row]
        elif line[0] != _NONE:
            raise ValueError(f"no filter {line[0]}")
        target[row] = pixels
        above = pixels
