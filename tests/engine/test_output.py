"""From ids to text and an end."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from autoglm.engine.output import OutputStream
from autoglm.engine.process import EngineProcess
from autoglm.messages import Ending, SamplingParams
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


ENDING = Ending(name="closed", pattern=r"[^)]*?f\((?:'(?:[^'\\]|\\.)*'|[^')])*\)", character=")")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("say f('a)', 2) and go on", "say f('a)', 2)"),
        ("f('it\\'s )') )", "f('it\\'s )')"),
        ("no call) at all f(", None),
        ("f(1)", "f(1)"),
        ("f(1))) and more", "f(1)"),
    ],
)
def test_an_answer_ends_where_it_is_complete(tokenizer: Tokenizer, text: str, last: str | None, size: int) -> None:
    """However the text falls apart into tokens."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    stream = OutputStream(tokenizer, SamplingParams(ending=ENDING), (), 999)
    found, reason = "", None
    for token in (token for piece in pieces for token in tokenizer.encode(piece)):
        piece = stream.push(token)
        found += piece.text
        if piece.reason is not None:
            reason = (piece.reason, piece.matched)
            break
    assert (found, reason) == ((text, None) if last is None else (last, ("stop", "closed")))
