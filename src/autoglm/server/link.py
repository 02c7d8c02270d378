"""The server's side of the engine process: start it, talk to it, start it again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
from collections.abc import Sequence
from enum import Enum
from itertools import count

from autoglm.errors import AutoGLMError, EngineUnavailableError, InvalidInputError, OverloadedError
from autoglm.messages import (
    Cancel,
    Command,
    Event,
    ForgetPrompts,
    FrameDecoder,
    GetStats,
    KeepSession,
    ModelInfo,
    Progress,
    Ready,
    Stats,
    StatsReply,
    Submit,
    decode_events,
    encode_command,
)
from autoglm.server.stream import RequestStream

log = logging.getLogger(__name__)
_FIRST_BACKOFF, _MAX_BACKOFF = 0.2, 30.0
_STATS_TIMEOUT = 5.0
_READ_BYTES = 2**18


class LinkState(Enum):
    """NEW -> STARTING -> READY -> BACKOFF -> STARTING …; STOPPED from anywhere."""

    NEW = "new"
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    STOPPED = "stopped"


_NEXT = {
    LinkState.NEW: {LinkState.STARTING, LinkState.STOPPED},
    LinkState.STARTING: {LinkState.READY, LinkState.BACKOFF, LinkState.STOPPED},
    LinkState.READY: {LinkState.BACKOFF, LinkState.STOPPED},
    LinkState.BACKOFF: {LinkState.STARTING, LinkState.STOPPED},
    LinkState.STOPPED: set(),
}


class EngineLink:
    """One engine process at a time.

    Args:
        command: argv of the engine process without ``--fd N``.
        max_in_flight: requests at once; one more raises :class:`OverloadedError`.

    Attributes:
        watcher: a task that follows the state (a progress bar); ended by :meth:`close`.
    """

    def __init__(self, command: Sequence[str], max_in_flight: int) -> None:
        self._command = tuple(command)
        self._max_in_flight = max_in_flight
        self.state = LinkState.NEW
        self.model: ModelInfo | None = None
        self.progress: Progress | None = None
        self.restarts = 0
        self.last_error: str | None = None
        self._streams: dict[str, RequestStream] = {}
        self._stats: dict[str, asyncio.Future[Stats]] = {}
        self._ids = count()
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self.watcher: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Requests whose end is not known yet."""
        return len(self._streams)

    @property
    def pid(self) -> int | None:
        """Process id of the engine, while there is one."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Begin; :meth:`ready` tells when requests are taken."""
        self._move(LinkState.STARTING)
        self._task = asyncio.create_task(self._supervise(), name="engine-link")

    async def ready(self) -> None:
        """Wait until an engine is ready."""
        await self._ready.wait()

    def submit(self, command: Submit) -> RequestStream:
        """Send a request. Raises :class:`EngineUnavailableError` or :class:`OverloadedError`."""
        if self.state is not LinkState.READY:
            raise EngineUnavailableError(f"the engine is {self.state.value}; try again soon")
        if len(self._streams) >= self._max_in_flight:
            raise OverloadedError(
                f"{len(self._streams)} requests are in flight, which is the limit",
                limit=self._max_in_flight,
                value=len(self._streams),
            )
        stream = RequestStream(command.id, command.n)
        self._streams[command.id] = stream
        try:
            self._send(command)
        except ValueError as error:
            del self._streams[command.id]
            raise InvalidInputError(str(error), field="messages") from error
        return stream

    def release(self, stream: RequestStream) -> None:
        """The reader is done; an unfinished request is cancelled."""
        if self._streams.pop(stream.id, None) is not None and not stream.complete:
            self._send(Cancel(stream.id))

    def keep_session(self, session: str, seconds: float, salt: str = "") -> None:
        """Hint that the session's KV will be needed for so long; 0: no longer. An engine that is away has none."""
        if self.state is LinkState.READY:
            self._send(KeepSession(session=session, seconds=seconds, cache_salt=salt))

    def forget_prompts(self) -> None:
        """Have processed images and tokenised texts forgotten, before any later request is looked at."""
        if self.state is LinkState.READY:
            self._send(ForgetPrompts())

    async def stats(self) -> Stats:
        """Ask the engine. Raises :class:`EngineUnavailableError` if it does not answer."""
        if self.state is not LinkState.READY:
            raise EngineUnavailableError(f"the engine is {self.state.value}")
        key = str(next(self._ids))
        future = self._stats[key] = asyncio.get_running_loop().create_future()
        self._send(GetStats(key))
        try:
            return await asyncio.wait_for(future, _STATS_TIMEOUT)
        except TimeoutError as error:
            raise EngineUnavailableError("the engine did not answer") from error
        finally:
            self._stats.pop(key, None)

    def fail_all(self, error: AutoGLMError) -> None:
        """End every request in flight with ``error``, and cancel it in the engine."""
        for stream in list(self._streams.values()):
            unfinished = not stream.complete
            stream.fail(error)
            self._streams.pop(stream.id, None)
            if unfinished and self.state is LinkState.READY:
                self._send(Cancel(stream.id))

    async def close(self, timeout: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after ``timeout`` seconds; leaves no process behind."""
        self._move(LinkState.STOPPED)
        self._ready.clear()
        self._lose("the server is shutting down")
        if self._process is not None:
            await _end(self._process, timeout)
        for task in (self._task, self.watcher):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _supervise(self) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            was_ready = await self._run_once()
            if self.state is LinkState.STOPPED:
                return
            self._move(LinkState.BACKOFF)
            backoff = _FIRST_BACKOFF if was_ready else min(2 * backoff, _MAX_BACKOFF)
            log.error("the engine ended (%s); starting it again in about %.1f s", self.last_error, backoff)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.5))
            self.restarts += 1
            self._move(LinkState.STARTING)

    async def _run_once(self) -> bool:
        """One life of an engine process; whether it ever got ready."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    "--fd",
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                )
            except OSError as error:
                ours.close()
                self.last_error = str(error)
                return False
            except asyncio.CancelledError:
                ours.close()
                raise
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        self._writer = writer
        was_ready = False
        try:
            decoder = FrameDecoder()
            while data := await reader.read(_READ_BYTES):
                for payload in decoder.feed(data):
                    for event in decode_events(payload):
                        self._handle(event)
                was_ready = was_ready or self.state is LinkState.READY
        except (OSError, ValueError) as error:
            log.error("the event stream broke: %s", error)
        finally:
            self._writer = None
            writer.close()
            self._ready.clear()
        status = await _end(self._process, 5.0)
        self._process = None
        self.last_error = f"exit status {status}"
        self._lose("the engine process died; the request may be sent again")
        return was_ready

    def _handle(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.progress = event
        elif isinstance(event, Ready):
            self.model = event.model
            self._move(LinkState.READY)
            self._ready.set()
        elif isinstance(event, StatsReply):
            future = self._stats.get(event.id)
            if future is not None and not future.done():
                future.set_result(event.stats)
        else:
            stream = self._streams.get(event.id)
            if stream is not None:
                stream.put(event)

    def _lose(self, why: str) -> None:
        error = EngineUnavailableError(why)
        self.fail_all(error)
        for future in self._stats.values():
            if not future.done():
                future.set_exception(error)
        self._stats.clear()

    def _send(self, command: Command) -> None:
        if self._writer is not None:
            self._writer.write(encode_command(command))

    def _move(self, state: LinkState) -> None:
        if state not in _NEXT[self.state]:
            raise RuntimeError(f"engine link cannot go from {self.state.value} to {state.value}")
        self.state = state


async def _end(process: asyncio.subprocess.Process, timeout: float) -> int:
    """Make sure a process has ended; its status."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), timeout)
        except TimeoutError:
            log.warning("the engine did not stop in %g s; killing it", timeout)
            _signal(process, signal.SIGKILL)
    return await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """As its ``send_signal``, which would first reap a process that has just ended: its true status were lost, and 255
    reported instead."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
