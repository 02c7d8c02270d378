"""The event stream of one phone.

Server-sent events, not a WebSocket: everything a person does is a plain request with a status and a typed error, so the
stream only has to go one way. That needs no further dependency, passes the same key check as every request, and a page
reads it with ``fetch``, which can send the key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from autoglm.errors import AutoGLMError
from autoglm.server.console.journal import Event, Journal, Viewer
from autoglm.server.problems import body_of, info_of

log = logging.getLogger(__name__)
KEEP_ALIVE = 15.0


class EventReply(Response):
    """Sends what is new on a phone until the phone is gone, the viewer is gone, or it reads nothing for too long."""

    def __init__(self, journal: Journal, after: int | None, write_timeout: float, done: Callable[[], None]) -> None:
        self._journal = journal
        self._viewer = Viewer(journal, after)
        self._write_timeout = write_timeout
        self._done = done
        self.background = None

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.create_task(self._stream(send))
        gone = asyncio.create_task(_disconnect(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._done()
            for task in (work, gone):
                task.cancel()
            results = await asyncio.gather(work, gone, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _stream(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            while True:
                changed = self._journal.changed
                try:
                    events = list(self._viewer.take())
                except AutoGLMError as error:
                    await self._write(send, _lines([{"type": "error"} | body_of(info_of(error))]), more=False)
                    return
                closed = any(event["type"] == "closed" for event in events)
                await self._write(send, _lines(events), more=not closed)
                if closed:
                    return
                await self._wait(changed, send)
        except TimeoutError:
            # The answer stays incomplete, so the HTTP server closes the connection.
            log.warning("a viewer read nothing for %g s; cut off", self._write_timeout)

    async def _wait(self, changed: asyncio.Event, send: Send) -> None:
        while True:
            try:
                await asyncio.wait_for(changed.wait(), KEEP_ALIVE)
                return
            except TimeoutError:
                await self._write(send, b": still here\n\n", more=True)

    async def _write(self, send: Send, data: bytes, *, more: bool) -> None:
        async with asyncio.timeout(self._write_timeout):
            await send({"type": "http.response.body", "body": data, "more_body": more})


def _lines(events: list[Event]) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
