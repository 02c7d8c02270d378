"""What is encoded comes back, however the stream is cut."""

from __future__ import annotations

import struct
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.errors import OverloadedError
from autoglm.messages import (
    MAX_FRAME_BYTES,
    Cancel,
    ChatMessage,
    Command,
    ErrorInfo,
    Event,
    Failed,
    FrameDecoder,
    GetStats,
    ImagePart,
    SamplingParams,
    Shutdown,
    Submit,
    TextPart,
    decode_command,
    decode_events,
    encode_command,
    encode_events,
)

# msgspec knows only 64-bit integers.
SUBMITS = st.builds(
    Submit,
    id=st.text(max_size=8),
    messages=st.lists(
        st.builds(
            ChatMessage,
            role=st.sampled_from(["user", "assistant"]),
            content=st.text(max_size=20)
            | st.lists(
                st.builds(TextPart, st.text(max_size=20)) | st.builds(ImagePart, st.binary(max_size=20)), max_size=3
            ),
        ),
        max_size=3,
    ),
    sampling=st.builds(
        SamplingParams,
        temperature=st.floats(0, 2),
        seed=st.none() | st.integers(-(2**63), 2**63 - 1),
        logit_bias=st.dictionaries(st.integers(0, 99), st.floats(-100, 100), max_size=3),
        stop=st.lists(st.text(max_size=4), max_size=3).map(tuple),
    ),
    priority=st.integers(-5, 5),
)
COMMANDS = SUBMITS | st.builds(Cancel, st.text()) | st.builds(GetStats, st.text()) | st.just(Shutdown())


def payloads(frames: bytes) -> list[bytes]:
    return list(FrameDecoder().feed(frames))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(command=COMMANDS)
def test_commands_come_back(command: Command) -> None:
    (payload,) = payloads(encode_command(command))
    assert decode_command(payload) == command


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    events=st.lists(
        st.builds(
            Failed,
            st.text(),
            st.builds(
                ErrorInfo,
                kind=st.text(),
                message=st.text(),
                limit=st.none() | st.text() | st.integers(-(2**63), 2**64 - 1),
                value=st.none() | st.floats(allow_nan=False),
                retryable=st.booleans(),
            ),
        ),
        max_size=4,
    )
)
def test_events_come_back(events: list[Event]) -> None:
    (payload,) = payloads(encode_events(events))
    assert decode_events(payload) == events


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data(), commands=st.lists(COMMANDS, max_size=5))
def test_any_cuts_give_the_same_frames(data: st.DataObject, commands: list[Command]) -> None:
    stream = b"".join(encode_command(c) for c in commands)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    decoder = FrameDecoder()
    found = [p for a, b in pairwise([0, *cuts, len(stream)]) for p in decoder.feed(stream[a:b])]
    assert [decode_command(p) for p in found] == commands


def test_over_long_frames_are_refused_before_they_arrive() -> None:
    decoder = FrameDecoder()
    with pytest.raises(ValueError, match=str(MAX_FRAME_BYTES)):
        list(decoder.feed(struct.pack("<I", MAX_FRAME_BYTES + 1)))
    assert list(FrameDecoder().feed(struct.pack("<I", MAX_FRAME_BYTES))) == []


def test_over_long_commands_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.messages.wire.MAX_FRAME_BYTES", 100)
    with pytest.raises(ValueError, match="over the limit of 100"):
        encode_command(Cancel("x" * 200))


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"type": "no such command"})])
def test_garbage_is_no_command(payload: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_command(payload)


def test_an_error_keeps_its_terms() -> None:
    error = OverloadedError("full", retry_after=2.5, field="n", limit=3, value=4)
    info = ErrorInfo.of(error)
    assert (info.kind, info.field, info.limit, info.value) == ("overloaded", "n", 3, 4)
    assert (info.retryable, info.retry_after) == (True, 2.5)
