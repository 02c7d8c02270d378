"""The tracking link: one RESP3 connection on which Redis pushes the keys that changed."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

log = logging.getLogger(__name__)
_FIRST_PAUSE, _MAX_PAUSE = 0.02, 1.0


class LinkState(Enum):
    """DOWN -> UP when tracking is confirmed; UP -> DOWN when the connection ends or a heartbeat stays unanswered."""

    DOWN = "down"
    UP = "up"
    CLOSED = "closed"


class Listener(Protocol):
    """Who keeps copies of what the link speaks of. Called on the link's thread; must not block or raise."""

    def changed(self, keys: list[str]) -> None:
        """These keys (without the link's prefix) were written, removed, expired or evicted."""

    def everything_changed(self) -> None:
        """The store was flushed, or changes may have been missed."""


class TrackingLink:
    """Keeps one connection with ``CLIENT TRACKING ON BCAST PREFIX`` and tells listeners what is pushed on it.

    Replies and pushes share the connection, in order. So the answer to a PING proves that every push which Redis
    had queued before it has been handled: at that moment the copies were exact. :attr:`fresh_until` is the time at
    which that PING was *sent*, plus the lease; until then, copies may be served without asking.

    Args:
        make: a new connection whose steps take at most so many seconds.
        prefix: of all keys; not told to listeners.
        heartbeat, lease: seconds; see :class:`SharedConfig`.
    """

    def __init__(
        self, make: Callable[[float], AbstractConnection], prefix: str, *, heartbeat: float, lease: float
    ) -> None:
        self._make = make
        self._prefix = prefix.encode()
        self._heartbeat = heartbeat
        self._lease = lease
        self._patience = lease - heartbeat
        self._listeners: tuple[Listener, ...] = ()
        self._stop = threading.Event()
        self._connection: AbstractConnection | None = None
        self._thread = threading.Thread(target=self._run, name="cache-link", daemon=True)
        self.state = LinkState.DOWN
        self.fresh_until = 0.0
        self.losses = 0
        self.pushes = 0

    def listen(self, listener: Listener) -> None:
        """From now on ``listener`` is told."""
        self._listeners = (*self._listeners, listener)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread; copies are no longer vouched for."""
        self._stop.set()
        connection = self._connection
        if connection is not None:
            connection.disconnect()
        if self._thread.is_alive():
            self._thread.join(5.0)
        self.fresh_until = 0.0
        self.state = LinkState.CLOSED

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stop.is_set():
            try:
                self._connect()
                pause = _FIRST_PAUSE
                self._follow()
            except (RedisError, OSError, AttributeError) as error:  # AttributeError: closed under our hands
                if not self._stop.is_set():
                    log.log(logging.WARNING if self.state is LinkState.UP else logging.DEBUG, "link lost: %s", error)
            finally:
                self._lose()
            self._stop.wait(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _MAX_PAUSE)

    def _connect(self) -> None:
        connection = self._connection = self._make(self._patience)
        connection.connect()
        connection._parser.set_invalidation_push_handler(self._pushed)
        sent = time.monotonic()
        connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._prefix, check_health=False)
        connection.read_response(timeout=self._patience)
        # Copies made while nobody listened may be old; those made from here on are told about.
        self.tell_all()
        self.fresh_until = sent + self._lease
        self.state = LinkState.UP

    def _follow(self) -> None:
        connection = self._connection
        if connection is None:
            return
        next_ping = time.monotonic() + self._heartbeat
        asked: float | None = None
        while not self._stop.is_set():
            now = time.monotonic()
            if asked is not None and now - asked > self._patience:
                raise RedisTimeoutError("a heartbeat was not answered")
            if asked is None and now >= next_ping:
                connection.send_command("PING", check_health=False)
                asked = now
            until = next_ping if asked is None else asked + self._patience
            try:
                reply = connection.read_response(
                    timeout=max(until - now, 0.001), disconnect_on_error=False, push_request=True
                )
            except RedisTimeoutError:
                continue
            if reply in (b"PONG", "PONG"):
                if asked is None:
                    raise RedisConnectionError("an answer that nobody asked for")
                self.fresh_until = asked + self._lease
                next_ping, asked = asked + self._heartbeat, None

    def _pushed(self, message: list[Any]) -> None:
        self.pushes += 1
        keys = message[1]
        if keys is None:
            self.tell_all()
            return
        length = len(self._prefix)
        names = [bytes(key)[length:].decode("utf-8", "surrogateescape") for key in keys]
        for listener in self._listeners:
            listener.changed(names)

    def tell_all(self) -> None:
        """Have every listener drop everything."""
        for listener in self._listeners:
            listener.everything_changed()

    def _lose(self) -> None:
        connection, self._connection = self._connection, None
        if self.state is LinkState.UP:
            self.state = LinkState.DOWN
            self.losses += 1
        self.fresh_until = 0.0
        self.tell_all()
        if connection is not None:
            connection.disconnect()
