"""A real HTTP server whose answers are scripted: one reply a request, everything it was sent is kept."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

USAGE: dict[str, Any] = {
    "prompt_tokens": 100,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 60, "image_tokens": 9},
}


@dataclass(frozen=True)
class Say:
    """An answer in pieces; ``then`` is what follows the last of them."""

    text: str
    piece: int = 5
    usage: dict[str, Any] | None = field(default_factory=lambda: dict(USAGE))
    then: str = "end"  # or "hang", "break", "error", "garbage", "nothing"
    line_end: str = "\n"
    before: str = ""  # sent before the text, as it stands
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refuse:
    """An HTTP error."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Reply = Say | Refuse


class ModelServer:
    """Replies in order; the last one is given again and again."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.open_streams = 0
        self.url = ""
        self._replies: deque[Reply] = deque()
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self._chat)

    def script(self, *replies: Reply | str) -> None:
        """Forget what was; answer these from now on."""
        self.requests.clear()
        self.headers.clear()
        self._replies = deque(Say(r) if isinstance(r, str) else r for r in replies)

    async def _chat(self, request: Request) -> Response:
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        reply = self._replies.popleft() if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, Refuse):
            if isinstance(reply.body, str):
                return Response(reply.body, reply.status, reply.headers)
            return JSONResponse(reply.body, reply.status, reply.headers)
        return StreamingResponse(self._stream(reply), headers=reply.headers, media_type="text/event-stream")

    async def _stream(self, reply: Say) -> AsyncIterator[bytes]:
        self.open_streams += 1
        end = reply.line_end * 2
        try:
            yield f"data: {_chunk({'role': 'assistant', 'content': ''})}{end}".encode()
            if reply.before:
                yield reply.before.encode()
            for at in range(0, len(reply.text), reply.piece):
                yield f"data: {_chunk({'content': reply.text[at : at + reply.piece]})}{end}".encode()
                await asyncio.sleep(0)
            if reply.then == "hang":
                await asyncio.sleep(60)
            elif reply.then == "break":
                raise ConnectionError("the script ends the connection here")
            elif reply.then == "error":
                error = {"message": "the engine went away", "code": "engine_unavailable", "param": None}
                yield f"data: {json.dumps({'error': error})}{end}".encode()
            elif reply.then == "garbage":
                yield f"data: [1, 2{end}".encode()
            elif reply.then == "end":
                yield f"data: {_chunk({}, 'stop')}{end}".encode()
                if reply.usage is not None:
                    yield f"data: {json.dumps({'choices': [], 'usage': reply.usage})}{end}".encode()
                yield f"data: [DONE]{end}".encode()
        finally:
            self.open_streams -= 1


def _chunk(delta: dict[str, str], reason: str | None = None) -> str:
    # As servers do it: text is not escaped, so other line separators stand inside a line.
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}, ensure_ascii=False)


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """Running on a free loopback port."""
    server = ModelServer()
    config = uvicorn.Config(server.app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    runner = uvicorn.Server(config)
    sockets = [config.bind_socket()]
    server.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/v1"
    thread = threading.Thread(target=runner.run, args=(sockets,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        runner.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
