"""The events of one request on their way from the engine to its HTTP answer."""

from __future__ import annotations

import asyncio
from collections import deque

from autoglm.errors import AutoGLMError
from autoglm.messages import Accepted, Failed, Output
from autoglm.server.problems import RequestError

ChoiceEvent = Accepted | Output


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
            self._events[-1] = _join(last, event)
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


def _join(first: Output, second: Output) -> Output:
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
