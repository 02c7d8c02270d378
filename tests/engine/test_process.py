"""The engine in its own process, over a real socket pair."""

from __future__ import annotations

import gc
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoglm.engine import Engine
from autoglm.engine.process import EngineProcess, main
from autoglm.messages import (
    Cancel,
    ChatMessage,
    Command,
    Event,
    FrameDecoder,
    GetStats,
    Output,
    Progress,
    Ready,
    SamplingParams,
    Shutdown,
    StatsReply,
    Submit,
    decode_events,
    encode_command,
)


class Child:
    """An engine process and our end of its socket."""

    def __init__(self, checkpoint: Path) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(180)
        fd = str(theirs.fileno())
        config = '{"threads": 1, "kv_cache_bytes": 8000000, "check_integrity": true}'
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "autoglm.engine.process",
                "--fd",
                fd,
                "--model",
                str(checkpoint),
                "--config",
                config,
            ],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.decoder = FrameDecoder()
        self.events: list[Event] = []

    def send(self, command: Command) -> None:
        self.socket.sendall(encode_command(command))

    def until(self, kind: type[Event]) -> list[Event]:
        """All events up to the first of a kind."""
        seen: list[Event] = []
        while True:
            while self.events:
                seen.append(self.events.pop(0))
                if isinstance(seen[-1], kind):
                    return seen
            data = self.socket.recv(2**16)
            assert data, "the engine went away"
            for payload in self.decoder.feed(data):
                self.events += decode_events(payload)


@pytest.fixture
def child(checkpoint: Path) -> Iterator[Child]:
    """A ready engine process."""
    started = Child(checkpoint)
    try:
        assert isinstance(started.until(Ready)[0], Progress)
        yield started
    finally:
        started.socket.close()
        started.process.kill()
        started.process.wait()


def submit(request_id: str, tokens: int) -> Submit:
    sampling = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    return Submit(id=request_id, messages=[ChatMessage("user", "Hi")], sampling=sampling)


def test_a_life(child: Child) -> None:
    child.send(submit("a", 3))
    outputs: list[Output] = []
    while not outputs or outputs[-1].finish is None:
        outputs += [e for e in child.until(Output) if isinstance(e, Output)]
    assert sum(len(o.token_ids) for o in outputs) == 3
    child.send(submit("b", 20000))
    child.until(Output)
    child.send(Cancel("b"))
    child.send(GetStats("s"))
    reply = child.until(StatsReply)[-1]
    assert isinstance(reply, StatsReply)
    assert reply.stats.running == 0
    assert reply.stats.kv_blocks_free == reply.stats.kv_blocks_total
    child.send(Shutdown())
    assert child.process.wait(120) == 0


def test_sigterm_while_working(child: Child) -> None:
    child.send(submit("a", 20000))
    child.until(Output)
    child.process.send_signal(signal.SIGTERM)
    assert child.process.wait(120) == 0


def test_the_server_goes_away(child: Child) -> None:
    child.send(submit("a", 20000))
    child.until(Output)
    child.socket.close()
    assert child.process.wait(120) == 0


def test_garbage_ends_it(child: Child) -> None:
    child.socket.sendall(b"\xff\xff\xff\xff garbage")
    assert child.process.wait(120) == 0


def test_no_collection_of_garbage_walks_what_was_loaded(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[int, int]] = []

    def serve(process: EngineProcess, engine: Engine) -> None:
        found.append((len(gc.get_objects()), gc.get_freeze_count()))
        engine.close()
        process._connection.close()

    monkeypatch.setattr(EngineProcess, "serve", serve)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    ours, theirs = socket.socketpair()
    command = ["--fd", str(theirs.detach()), "--model", str(checkpoint), "--config", '{"kv_cache_bytes": 8000000}']
    try:
        with ours:
            assert main(command) == 0
    finally:
        gc.unfreeze()
        for number, handler in before.items():
            signal.signal(number, handler)
    ((walked, left_alone),) = found
    assert walked < left_alone / 100
