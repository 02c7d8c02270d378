"""Framing: four bytes of little-endian length, then msgpack. Lengths are bounded on both sides."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec

from autoglm.messages.commands import Command
from autoglm.messages.events import Event

MAX_FRAME_BYTES = 256 * 2**20
_HEADER = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_events: msgspec.msgpack.Decoder[list[Event]] = msgspec.msgpack.Decoder(list[Event])


def encode_command(command: Command) -> bytes:
    """One frame holding one command."""
    return _frame(_encoder.encode(command))


def encode_events(events: Sequence[Event]) -> bytes:
    """One frame holding the events of one step, in order."""
    return _frame(_encoder.encode(list(events)))


def decode_command(payload: bytes | bytearray | memoryview) -> Command:
    """Raises :class:`msgspec.ValidationError` for anything but a command."""
    return _commands.decode(payload)


def decode_events(payload: bytes | bytearray | memoryview) -> list[Event]:
    """Raises :class:`msgspec.ValidationError` for anything but a list of events."""
    return _events.decode(payload)


def _frame(payload: bytes) -> bytes:
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"frame of {len(payload)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return _HEADER.pack(len(payload)) + payload


class FrameDecoder:
    """Cuts a byte stream into frames; feed it whatever arrived."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each complete payload. Raises :class:`ValueError` on an over-long frame."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield payload
