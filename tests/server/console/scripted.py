"""The real console and the real agent loop, with an expert in the model's place: ``scripted.py OPTIONS_JSON``.

The expert answers ``/v1/chat/completions`` as an engine would, as a stream, but it knows the phone: it finds the one
whose screen the request shows, and says what the task's own oracle says. Prints the base URL once the port is bound.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from autoglm.agent.actions import Finish, format_action
from autoglm.agent.model_client import ModelConfig
from autoglm.agent.tasks.oracle import oracle
from autoglm.errors import AutoGLMError
from autoglm.server.console.config import ConsoleConfig
from autoglm.server.console.hits import HitHistory
from autoglm.server.console.phones import Phones
from autoglm.server.console.routes import add_console
from autoglm.server.console.session import PhoneSession
from autoglm.server.problems import response_of

PIECE = 3
FIGURES = {
    "name": "expert",
    "engine": "ready",
    "loading": None,
    "model": {"layout": "autoglm_phone", "parameters": 11_800_000, "dtype": "float32", "device": "cpu"},
    "stats": None,
}


class Expert:
    """Answers for every phone of the console."""

    def __init__(self, phones: Phones, delay: float) -> None:
        self._phones = phones
        self._delay = delay
        self._requests = 0

    def reply(self, messages: list[dict[str, Any]]) -> str:
        """What the model would write."""
        shown = base64.b64decode(messages[-1]["content"][0]["image_url"]["url"].partition(",")[2])
        session = next(s for s in self._phones.all() if s.screen.picture().shot.png == shown)
        first = next(m for m in messages if m["role"] == "user")["content"][-1]["text"]
        instruction = first.rpartition("\n\n")[0]
        said = self._written(instruction)
        if said is not None:
            return said
        return self._decide(session, instruction, messages)

    def _written(self, instruction: str) -> str | None:
        """An instruction may hold the model's output itself, to try what the page does with it."""
        return instruction.removeprefix("say: ") if instruction.startswith("say: ") else None

    def _decide(self, session: PhoneSession, instruction: str, messages: list[dict[str, Any]]) -> str:
        task = session.task_of(instruction)
        if task is None:
            return f"<think>I do not know this task.</think><answer>{format_action(Finish('No such task here.'))}"
        last = messages[-2]["content"] if len(messages) > 2 else ""
        think = last.partition("</think>")[0].rpartition("<think>")[2] if isinstance(last, str) else ""
        decision = session.screen.inspect(lambda phone: oracle(task, phone, think))
        return f"<think>{decision.think}</think><answer>{format_action(decision.action)}"

    async def stream(self, text: str) -> AsyncIterator[str]:
        """The answer in small pieces."""
        for piece in pieces(text):
            await asyncio.sleep(self._delay)
            yield chunk({"content": piece}, None)
        yield chunk({}, "stop")
        self._requests += 1
        usage = {
            "prompt_tokens": 640,
            "completion_tokens": len(text) // PIECE,
            "total_tokens": 640 + len(text) // PIECE,
            "prompt_tokens_details": {"cached_tokens": 0 if self._requests == 1 else 610, "image_tokens": 576},
        }
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"


def pieces(text: str) -> Iterator[str]:
    """A few characters at a time."""
    for start in range(0, len(text), PIECE):
        yield text[start : start + PIECE]


def chunk(delta: dict[str, str], reason: str | None) -> str:
    """One event of the protocol."""
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': reason}]})}\n\n"


def build(url: str, options: dict[str, Any]) -> tuple[FastAPI, Phones]:
    """The application around console and expert."""
    delay = options.pop("delay", 0.0)
    phones = Phones(ConsoleConfig(**options), ModelConfig(base_url=f"{url}/v1"))
    expert = Expert(phones, delay)
    app = FastAPI(docs_url=None, redoc_url=None)

    @app.exception_handler(AutoGLMError)
    async def ours(_request: Request, error: AutoGLMError) -> Any:
        return response_of(error)

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> StreamingResponse:
        text = expert.reply((await request.json())["messages"])
        return StreamingResponse(expert.stream(text), media_type="text/event-stream")

    async def figures() -> dict[str, Any]:
        return FIGURES

    add_console(app, phones, figures, HitHistory(), 5.0)
    return app, phones


class Server(uvicorn.Server):
    """Signals are left to :func:`main`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def main(options: dict[str, Any]) -> None:
    """Serve until SIGTERM; the phones end first, and with them the streams."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app, phones = build(url, options)
    server = Server(uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=2))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    print(url, flush=True)
    await stop.wait()
    await phones.close()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
