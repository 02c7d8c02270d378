"""The KV blocks a peer lacks; exact.

The sender offers the names of its blocks, the peer answers which of them it lacks, and only those travel. Their bytes
are sorted by significance before deflate: the high bytes of neighbouring numbers are much alike, the low ones are noise
and go as they are.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from autoglm.errors import InvalidInputError

_HEAD = struct.Struct("<4sIIB")
_MAGIC = b"AGK1"
_PLANE = struct.Struct("<BQ")
_LEVEL = 1
_WORTH = 0.9
"""A plane of bytes is deflated if its sample shrinks below this share."""
_SAMPLE = 2**14


def lacking(offered: Sequence[bytes], held: Collection[bytes]) -> list[int]:
    """The peer's answer to an offer: places of the names that are not among ``held``."""
    return [place for place, name in enumerate(offered) if name not in held]


def encode_blocks(blocks: Tensor, wanted: Sequence[int]) -> bytes:
    """Code ``blocks[wanted]``; ``blocks`` is ``[n, ...]``, contiguous, of any type.

    The message says how many blocks and of how many bytes each; shape and type both sides know from the model.
    """
    chosen = blocks[list(wanted)].contiguous()
    width = blocks.element_size()
    planes = chosen.reshape(-1).view(torch.uint8).numpy().reshape(-1, width).T
    parts = [_HEAD.pack(_MAGIC, len(wanted), blocks[0].nbytes if len(blocks) else 0, width)]
    for plane in planes:
        data = plane.tobytes()
        packed = zlib.compress(data, _LEVEL) if _shrinks(data) else b""
        deflated = 0 < len(packed) < len(data)
        body = packed if deflated else data
        parts += [_PLANE.pack(deflated, len(body)), body]
    return b"".join(parts)


def decode_blocks(message: bytes, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """``[wanted, *shape]`` as :func:`encode_blocks` was given them.

    Raises:
        InvalidInputError: not such a message, or of blocks of another size.
    """
    if len(message) < _HEAD.size or message[:4] != _MAGIC:
        raise InvalidInputError("not coded KV blocks", field="message", value=len(message))
    _, count, nbytes, width = _HEAD.unpack_from(message)
    expected = torch.empty(tuple(shape), dtype=dtype, device="meta")
    if width != expected.element_size() or (count and nbytes != expected.nbytes):
        raise InvalidInputError(
            f"blocks of {nbytes} bytes, but the model's have {expected.nbytes}",
            field="message",
            limit=expected.nbytes,
            value=nbytes,
        )
    length = count * nbytes // width
    planes = np.empty((length, width), np.uint8)
    at = _HEAD.size
    try:
        for plane in range(width):
            deflated, size = _PLANE.unpack_from(message, at)
            at += _PLANE.size
            body = message[at : at + size]
            at += size
            planes[:, plane] = np.frombuffer(_inflated(body, length) if deflated else body, np.uint8)
        if at != len(message):
            raise ValueError("its length is not what it says")
    except (zlib.error, struct.error, ValueError) as error:
        raise InvalidInputError(f"coded KV blocks are damaged: {error}", field="message") from error
    return torch.from_numpy(planes.reshape(-1)).view(dtype).view(count, *shape)


def _inflated(body: bytes, length: int) -> bytes:
    plain = zlib.decompressobj()
    data = plain.decompress(body, length + 1)  # never more than the plane needs, whatever the message holds
    if not plain.eof:
        raise ValueError("a plane is cut off or too long")
    return data


def _shrinks(data: bytes) -> bool:
    """Looks at a piece from the middle: deflate on noise costs more than a fast link takes to carry it."""
    middle = max(0, len(data) // 2 - _SAMPLE // 2)
    sample = data[middle : middle + _SAMPLE]
    return bool(sample) and len(zlib.compress(sample, _LEVEL)) < _WORTH * len(sample)
