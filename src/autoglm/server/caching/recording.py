"""One engine request that several clients follow, each from its beginning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from autoglm.errors import AutoGLMError
from autoglm.server.link import EngineLink
from autoglm.server.stream import ChoiceEvent, RequestStream


class Recording:
    """Pulls a request's events and keeps them for its readers. Belongs to one event loop.

    It ends when the request does, or when its last reader has left: then the request is cancelled. A reader that
    leaves, be it the one that began it, takes nothing from the others.

    Args:
        ended: called once, with all events if the request ended well, with ``None`` otherwise.
    """

    def __init__(
        self, stream: RequestStream, link: EngineLink, ended: Callable[[list[ChoiceEvent] | None], None]
    ) -> None:
        self.events: list[ChoiceEvent] = []
        self.error: AutoGLMError | None = None
        self.done = False
        self.joinable = True
        self._stream = stream
        self._link = link
        self._ended = ended
        self._readers = 0
        self._news = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._pull(), name=f"recording {stream.id}")

    def reader(self, request_id: str, how: str) -> Replay:
        """One more client."""
        self._readers += 1
        return Replay(request_id, self.events, how, self)

    def leave(self) -> None:
        """A reader is done."""
        self._readers -= 1
        if self._readers == 0 and not self.done:
            self.joinable = False
            self._task.cancel()

    async def more(self, have: int) -> None:
        """Wait until there are more than ``have`` events, or there will be none."""
        while len(self.events) <= have and not self.done:
            await self._news.wait()

    async def _pull(self) -> None:
        try:
            while (event := await self._stream.next()) is not None:
                self.events.append(event)
                self._tell()
        except AutoGLMError as error:
            self.error = error
            self.joinable = False
        finally:
            self._link.release(self._stream)
            well = self.error is None and self._stream.complete
            self.done = True
            self._tell()
            self._ended(self.events if well else None)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Replay:
    """One client's place in a recording, or in an answer from the cache.

    Attributes:
        id: of the client's own request.
        how: ``hit``, ``joined`` or ``miss``, for the client.
    """

    def __init__(
        self, request_id: str, events: Sequence[ChoiceEvent], how: str, recording: Recording | None = None
    ) -> None:
        self.id = request_id
        self.how: str | None = how
        self._events = events
        self._recording = recording
        self._at = 0

    async def next(self) -> ChoiceEvent | None:
        """The next event; ``None`` after the last. Raises the error the request ended with."""
        if self._recording is not None:
            await self._recording.more(self._at)
        if self._at < len(self._events):
            self._at += 1
            return self._events[self._at - 1]
        if self._recording is not None and self._recording.error is not None:
            raise self._recording.error
        return None

    def close(self) -> None:
        """The client is done."""
        if self._recording is not None:
            self._recording.leave()
            self._recording = None
