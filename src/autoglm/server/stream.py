"""The events of one request on their way from the engine to its HTTP answer."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from autoglm.errors import AutoGLMError
from autoglm.messages import Accepted, Failed, Output
from autoglm.server.problems import RequestError

if TYPE_CHECKING:
    from autoglm.server.link import EngineLink

ChoiceEvent = Accepted | Output


class AnswerSource(Protocol):
    """Where a reply reads its events from.

    Attributes:
        id: of the request, for its client.
        how: ``hit``, ``joined`` or ``miss`` if the cache was asked, else ``None``.
    """

    id: str
    how: str | None

    async def next(self) -> ChoiceEvent | None:
        """The next event; ``None`` after the last. Raises the error the request ended with."""

    def close(self) -> None:
        """The reader is done; called once, however the request stands."""


class RequestStream:
    """A queue that a slow reader cannot make long: waiting pieces of one choice become one piece."""

    def __init__(self, request_id: str, choices: int) -> None:
        self.id = request_id
        self._open = choices
        self._events: deque[ChoiceEvent] = deque()
        self._error: AutoGLMError | None = None
        self._ready = asyncio.Event()

    @property
    def complete(self) -> bool:
        """Nothing more will come from the engine."""
        return self._open == 0 or self._error is not None

    def put(self, event: ChoiceEvent | Failed) -> None:
        """Called by the link."""
        if isinstance(event, Failed):
            self.fail(RequestError(event.error))
            return
        if isinstance(event, Output) and event.finish is not None:
            self._open -= 1
        last = self._events[-1] if self._events else None
        if isinstance(event, Output) and isinstance(last, Output) and last.index == event.index:
            self._events[-1] = join(last, event)
        else:
            self._events.append(event)
        self._ready.set()

    def fail(self, error: AutoGLMError) -> None:
        """The request ends with ``error``, after what already came."""
        self._error = self._error or error
        self._ready.set()

    async def next(self) -> ChoiceEvent | None:
        """The next event; ``None`` after the last. Raises the error the request ended with."""
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._open == 0:
                return None
            self._ready.clear()
            await self._ready.wait()
        return self._events.popleft()


class LinkedStream:
    """An engine request that belongs to one reader: when the reader leaves, it is cancelled."""

    how: str | None = None

    def __init__(self, stream: RequestStream, link: EngineLink) -> None:
        self.id = stream.id
        self.next = stream.next
        self._stream = stream
        self._link = link

    def close(self) -> None:
        self._link.release(self._stream)


def join(first: Output, second: Output) -> Output:
    """Two pieces of one choice, one after the other, as one."""
    logprobs = None
    if first.logprobs is not None or second.logprobs is not None:
        logprobs = (first.logprobs or []) + (second.logprobs or [])
    return Output(
        id=first.id,
        index=first.index,
        text=first.text + second.text,
        token_ids=first.token_ids + second.token_ids,
        logprobs=logprobs,
        finish=second.finish,
    )
