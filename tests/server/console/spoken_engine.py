"""An engine process that says what it is told: ``spoken_engine.py LOG --fd N``.

It speaks the real protocol to the real server. A task's instruction holds the answers to its steps, between ``||``.
Every command that names a session is written to ``LOG``, one JSON object a line.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from autoglm.messages import (
    Accepted,
    CacheStats,
    ChatMessage,
    Event,
    Finish,
    FrameDecoder,
    GetStats,
    KeepSession,
    ModelInfo,
    Output,
    Ready,
    Shutdown,
    Stats,
    StatsReply,
    Submit,
    TextPart,
    Usage,
    decode_command,
    encode_events,
)

MODEL = ModelInfo(
    layout="autoglm_phone", parameters=1, dtype="none", device="none", context_length=9, vocab_size=1, stop_token_ids=()
)


def main(log: Path, connection: socket.socket) -> None:
    """Serve until the server hangs up or says so."""
    connection.sendall(encode_events([Ready(MODEL)]))
    asked = 0
    for command in commands(connection):
        if isinstance(command, Submit):
            note(log, submit=command.session, seconds=command.keep_seconds)
            connection.sendall(encode_events(answer(command.id, said(command.messages))))
            asked += 1
        elif isinstance(command, KeepSession):
            note(log, keep=command.session, seconds=command.seconds)
        elif isinstance(command, GetStats):
            connection.sendall(encode_events([StatsReply(command.id, stats(asked))]))
        elif isinstance(command, Shutdown):
            return


def commands(connection: socket.socket) -> Iterator[object]:
    """Everything the server sends."""
    decoder = FrameDecoder()
    while data := connection.recv(2**18):
        for payload in decoder.feed(data):
            yield decode_command(payload)


def said(messages: list[ChatMessage]) -> str:
    """The line for this step: as many have been said as there are answers in the dialogue."""
    asked = next(message for message in messages if message.role == "user").content
    texts = [asked] if isinstance(asked, str) else [part.text for part in asked if isinstance(part, TextPart)]
    lines = texts[-1].rpartition("\n\n")[0].split("||")
    return lines[sum(message.role == "assistant" for message in messages)]


def answer(key: str, text: str) -> list[Event]:
    """A whole answer."""
    usage = Usage(prompt_tokens=10, completion_tokens=1, cached_tokens=5, image_tokens=0)
    end = Finish(reason="stop", usage=usage)
    return [
        Accepted(id=key, prompt_tokens=10, image_tokens=0, max_tokens=9),
        Output(id=key, index=0, text=text, token_ids=[0], finish=end),
    ]


def stats(asked: int) -> Stats:
    """Counters after so many requests: half of the prompt is known."""
    names = ("waiting", "running", "steps", "preemptions", "generated_tokens", "kv_blocks_total", "kv_blocks_free")
    prefix = CacheStats(
        name="kv_prefix", hits=5 * asked, misses=5 * asked, evictions=0, entries=0, bytes=0, capacity_bytes=1
    )
    return Stats(
        **dict.fromkeys(names, 0),
        prompt_tokens=10 * asked,
        cached_tokens=5 * asked,
        kv_block_tokens=1,
        resident_bytes=0,
        caches=[prefix],
    )


def note(log: Path, **fields: object) -> None:
    with log.open("a", encoding="utf-8") as sink:
        sink.write(json.dumps(fields) + "\n")


if __name__ == "__main__":
    log_file, flag, number = sys.argv[1:]
    assert flag == "--fd"
    with socket.socket(fileno=int(number)) as server:
        main(Path(log_file), server)
