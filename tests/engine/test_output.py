"""From ids to text and an end."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from autoglm.engine.output import OutputStream
from autoglm.engine.process import EngineProcess
from autoglm.messages import SamplingParams
from autoglm.prompt import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_directory(checkpoint)


@pytest.mark.parametrize("keep", [False, True])
def test_a_stop_string_at_the_very_end_is_kept_if_asked_for(tokenizer: Tokenizer, keep: bool) -> None:
    """A character cut off by the length limit shows only when the stream is flushed."""
    half = next(i for i in range(256) if tokenizer.token_bytes(i) == "点".encode()[:1])
    stream = OutputStream(tokenizer, SamplingParams(stop=("\ufffd",), include_stop_in_output=keep), (), 1)
    piece = stream.push(half)
    assert (piece.text, piece.reason, piece.matched) == ("\ufffd" if keep else "", "stop", "\ufffd")


@pytest.mark.parametrize("ignore", [False, True])
def test_ignore_eos(tokenizer: Tokenizer, ignore: bool) -> None:
    stop = tokenizer.token_id("<|user|>")
    assert stop is not None
    stream = OutputStream(tokenizer, SamplingParams(ignore_eos=ignore, stop_token_ids=(65,)), (stop,), 9)
    assert (stream.push(stop).reason is None) is ignore
    assert stream.push(65).reason == "stop"


def test_a_stop_token_can_be_kept(tokenizer: Tokenizer) -> None:
    stop = tokenizer.token_id("</answer>")
    assert stop is not None
    piece = OutputStream(tokenizer, SamplingParams(include_stop_in_output=True), (stop,), 9).push(stop)
    assert (piece.text, piece.matched) == ("</answer>", stop)


def test_a_stop_while_loading_ends_the_load() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = EngineProcess(ours)
        process.progress(1, 2)
        process.stop()
        with pytest.raises(SystemExit) as caught:
            process.progress(2, 2)
        assert caught.value.code == 0
