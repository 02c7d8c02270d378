"""Answering a chat request, whole or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from autoglm.errors import AutoGLMError, RequestTimeoutError
from autoglm.messages import Accepted, Output, TokenLogprob, Usage
from autoglm.server.config import ServerConfig
from autoglm.server.early_action import FEATURES, action_of
from autoglm.server.metrics import RequestTimer
from autoglm.server.problems import body_of, info_of, response_of
from autoglm.server.protocol import ChatRequest
from autoglm.server.shapes import envelope, logprobs_of, usage_of
from autoglm.server.stream import AnswerSource

log = logging.getLogger(__name__)
CACHE_HEADER = "x-autoglm-cache"


class StalledReaderError(Exception):
    """The client has left a chunk unread for too long. It cannot be told: nothing more fits into its buffers."""


class ChatReply(Response):
    """Sends the answer to one request and watches its client: gone means cancelled, at once."""

    def __init__(self, request: ChatRequest, stream: AnswerSource, config: ServerConfig, timer: RequestTimer) -> None:
        self._request = request
        self._stream = stream
        self._config = config
        self._timer = timer
        self._created = int(time.time())
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.create_task(self._answer(scope, receive, send))
        gone = asyncio.create_task(_disconnect(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self._timer.end("cancelled")
        finally:
            for task in (work, gone):
                task.cancel()
            results = await asyncio.gather(work, gone, return_exceptions=True)
            self._stream.close()
        if isinstance(results[0], Exception):
            raise results[0]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            async with asyncio.timeout(self._config.request_timeout):
                # Nothing is sent before the engine has taken the prompt, so its mistakes get a proper status.
                accepted = await self._stream.next()
                if not isinstance(accepted, Accepted):
                    raise AutoGLMError("the engine answered out of order")
                if self._request.stream:
                    started = True
                    await self._send_stream(send)
                else:
                    response = await self._whole()
                    started = True
                    await response(scope, receive, send)
            self._timer.end("200")
        except StalledReaderError:
            # The answer stays incomplete, so the HTTP server closes the connection.
            self._timer.end("cancelled")
            log.warning("%s: nothing was read for %g s; cut off", self._stream.id, self._config.write_timeout)
        except TimeoutError:
            seconds = self._config.request_timeout
            late = RequestTimeoutError(f"the request took longer than {seconds:g} s", limit=seconds)
            await self._fail(late, started, scope, receive, send)
        except AutoGLMError as error:
            await self._fail(error, started, scope, receive, send)

    async def _fail(self, error: AutoGLMError, started: bool, scope: Scope, receive: Receive, send: Send) -> None:
        response = response_of(error)
        self._timer.end(str(response.status_code))
        if not started:
            await response(scope, receive, send)
        elif self._request.stream:
            try:
                await self._write(send, _event(body_of(info_of(error))), more=False)
            except StalledReaderError:
                log.warning("%s: the client did not read its error", self._stream.id)

    async def _write(self, send: Send, data: bytes, *, more: bool) -> None:
        """A reader that has stopped reading must not hold blocks for ever. Raises :class:`StalledReaderError`."""
        try:
            async with asyncio.timeout(self._config.write_timeout):
                await send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError as error:
            raise StalledReaderError from error

    async def _whole(self) -> JSONResponse:
        texts: dict[int, list[str]] = {}
        logprobs: dict[int, list[TokenLogprob]] = {}
        ends: dict[int, Output] = {}
        while (event := await self._stream.next()) is not None:
            if not isinstance(event, Output):
                continue
            self._timer.tokens(len(event.token_ids))
            texts.setdefault(event.index, []).append(event.text)
            logprobs.setdefault(event.index, []).extend(event.logprobs or [])
            if event.finish is not None:
                ends[event.index] = event
        choices: list[dict[str, Any]] = [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(texts[index]), "refusal": None},
                "logprobs": logprobs_of(logprobs[index]) if self._request.logprobs else None,
                "finish_reason": finish.reason,
            }
            for index, end in sorted(ends.items())
            if (finish := end.finish) is not None
        ]
        if self._request.early_action:
            for choice in choices:
                choice["action"] = action_of(choice["message"]["content"])
        usages = [end.finish.usage for _, end in sorted(ends.items()) if end.finish is not None]
        self._timer.usage(usages)
        head = envelope("chat.completion", self._stream.id, self._created, self._request.model)
        headers = FEATURES | ({CACHE_HEADER: self._stream.how} if self._stream.how else {})
        return JSONResponse(head | {"choices": choices, "usage": usage_of(usages)}, headers=headers)

    async def _send_stream(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *((name.encode(), value.encode()) for name, value in FEATURES.items()),
        ]
        if self._stream.how:
            headers.append((CACHE_HEADER.encode(), self._stream.how.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for chunk in self._chunks():
            await self._write(send, chunk, more=True)
        await self._write(send, b"data: [DONE]\n\n", more=False)

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Events, encoded."""
        head = envelope("chat.completion.chunk", self._stream.id, self._created, self._request.model)
        options = self._request.stream_options
        with_usage = options is not None and options.include_usage
        if with_usage:
            head["usage"] = None
        for index in range(self._request.n or 1):
            yield _event(head | {"choices": [_choice(index, {"role": "assistant", "content": ""})]})
        usages: dict[int, Usage] = {}
        texts: dict[int, str] = {}
        while (event := await self._stream.next()) is not None:
            if not isinstance(event, Output):
                continue
            self._timer.tokens(len(event.token_ids))
            logprobs = logprobs_of(event.logprobs)
            if event.text or logprobs:
                yield _event(head | {"choices": [_choice(event.index, {"content": event.text}, logprobs)]})
            if self._request.early_action:
                texts[event.index] = texts.get(event.index, "") + event.text
            if event.finish is not None:
                if (action := action_of(texts.get(event.index, ""))) is not None:
                    yield self._action(event.index, action)
                usages[event.index] = event.finish.usage
                yield _event(head | {"choices": [_choice(event.index, {}, None, event.finish.reason)]})
        ordered = [usage for _, usage in sorted(usages.items())]
        self._timer.usage(ordered)
        if with_usage:
            yield _event(head | {"choices": [], "usage": usage_of(ordered)})

    def _action(self, index: int, action: dict[str, Any]) -> bytes:
        """The event that says what to do, before the chunk that ends the choice."""
        head = envelope("chat.completion.action", self._stream.id, self._created, self._request.model)
        return b"event: action\n" + _event(head | {"index": index, "action": action, "choices": []})


def _choice(
    index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, reason: str | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
