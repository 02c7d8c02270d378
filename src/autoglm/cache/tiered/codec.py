"""What lies in the shared store: framed, typed, versioned msgpack. Nothing read from there is ever executed."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

ID_BYTES = 8
_FORMAT = 1
_ARRAY_KINDS = "biufc"

V = TypeVar("V")
T = TypeVar("T")


class Kind(IntEnum):
    """What a frame says about its key."""

    VALUE = 0
    ABSENT = 1
    LOADING = 2


class Frame(Struct, frozen=True, array_like=True):
    """One entry of the shared store, after its eight bytes of identity.

    Attributes:
        tag, version: of the codec that wrote ``body``; another codec, or another version, reads it as a miss.
        ttl_ms: the life it was given, jitter included.
        cost_ms: what loading it took.
    """

    format: int
    kind: int
    tag: str
    version: int
    ttl_ms: int
    cost_ms: float
    body: bytes


_encoder = msgspec.msgpack.Encoder()
_frames: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def pack(frame: Frame) -> bytes:
    """Frame to bytes, behind a random identity that compare-and-set goes by."""
    return os.urandom(ID_BYTES) + _encoder.encode(frame)


def unpack(data: bytes) -> Frame | None:
    """``None`` for anything that is not a frame of this format."""
    try:
        frame = _frames.decode(memoryview(data)[ID_BYTES:])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return frame if frame.format == _FORMAT else None


def frame(kind: Kind, ttl: float, codec: Codec[Any] | None = None, body: bytes = b"", cost: float = 0.0) -> Frame:
    """A frame of the present format; ``ttl`` and ``cost`` in seconds."""
    tag, version = ("", 0) if codec is None else (codec.tag, codec.version)
    return Frame(_FORMAT, kind, tag, version, round(ttl * 1000), round(cost * 1000, 3), body)


class Codec(Protocol[V]):
    """Values to bytes and back. ``tag`` and ``version`` change whenever the bytes would be read differently."""

    @property
    def tag(self) -> str: ...
    @property
    def version(self) -> int: ...
    def encode(self, value: V) -> bytes: ...
    def decode(self, body: bytes) -> V:
        """Raises :class:`ValueError` (or msgspec's errors) for a body that :meth:`encode` did not write."""


class StructCodec(Generic[T]):
    """Any type that msgspec can check: structs, dataclasses, containers of plain values."""

    def __init__(self, kind: type[T], tag: str, version: int = 1) -> None:
        self.tag, self.version = tag, version
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)

    def encode(self, value: T) -> bytes:
        return _encoder.encode(value)

    def decode(self, body: bytes) -> T:
        return self._decoder.decode(body)


class BytesCodec:
    """Raw bytes."""

    tag, version = "bytes", 1

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, body: bytes) -> bytes:
        return body


class _ArrayHead(Struct, frozen=True, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class ArrayCodec:
    """A numpy array of plain numbers, C order. The array read back is read-only, on the bytes that came."""

    tag, version = "array", 1

    def __init__(self) -> None:
        self._decoder: msgspec.msgpack.Decoder[_ArrayHead] = msgspec.msgpack.Decoder(_ArrayHead)

    def encode(self, value: NDArray[Any]) -> bytes:
        if value.dtype.kind not in _ARRAY_KINDS:
            raise ValueError(f"arrays of {value.dtype} are not stored")
        whole = np.ascontiguousarray(value)
        return _encoder.encode(_ArrayHead(whole.dtype.str, whole.shape, whole.tobytes()))

    def decode(self, body: bytes) -> NDArray[Any]:
        head = self._decoder.decode(body)
        try:
            dtype = np.dtype(head.dtype)
        except TypeError as error:
            raise ValueError(f"not a type of numbers: {head.dtype[:20]!r}") from error
        if dtype.kind not in _ARRAY_KINDS or any(n < 0 for n in head.shape):
            raise ValueError(f"not an array of numbers: {head.dtype[:20]!r} {head.shape}")
        return np.frombuffer(head.data, dtype).reshape(head.shape)
