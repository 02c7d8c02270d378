"""How a value lies in a store that outlives the process: a fixed header, then the bytes. Nothing is unpickled.

Header: magic, key (32 bytes), payload length, sha-256 of the payload. What does not fit its key is as good as absent.
"""

from __future__ import annotations

import hashlib
import struct

_MAGIC = b"AGKV\x01\x00\x00\x00"
_HEADER = struct.Struct("<8s32sQ32s")
HEADER_BYTES = _HEADER.size


def seal(key: bytes, payload: bytes | bytearray | memoryview) -> bytes:
    """The bytes to store for a 32-byte key."""
    view = memoryview(payload)
    return _HEADER.pack(_MAGIC, key, view.nbytes, hashlib.sha256(view).digest()) + view.tobytes()


def unseal(key: bytes, data: bytes) -> memoryview | None:
    """The payload stored for ``key``; ``None`` if the bytes are cut, damaged, or another key's."""
    if len(data) < HEADER_BYTES:
        return None
    magic, stored, length, checksum = _HEADER.unpack_from(data)
    payload = memoryview(data)[HEADER_BYTES:]
    if magic != _MAGIC or stored != key or length != payload.nbytes:
        return None
    return payload if hashlib.sha256(payload).digest() == checksum else None
