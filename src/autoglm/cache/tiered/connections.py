"""Redis connections with one deadline per operation and no retries."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from autoglm.errors import InvalidInputError

Command = tuple[str | bytes | int, ...]
_MAX_DOUBTFUL = 4096
_HANDSHAKE_SHARE = 0.4  # of the operation's time, for each of: connect, HELLO, SELECT


def safe_address(url: str) -> str:
    """What may be logged of a URL: no user, no password, no query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


class Connections:
    """A bounded stack of RESP3 connections, used one operation each. Thread-safe.

    redis-py's own pool and client retry, check health and tell a server about themselves; each of these may take
    longer than an operation has. Here an operation is: send, read, until a deadline. A connection that the server has
    closed while it was idle is replaced before it is used; one that fails in use is dropped, and the operation fails.
    """

    def __init__(self, url: str, limit: int, timeout: float, password: str | None = None) -> None:
        self._timeout = timeout
        self._class, self._options = _options(url)
        if password and not self._options.get("password"):
            self._options["password"] = password
        self._room = threading.Semaphore(limit)
        self._lock = threading.Lock()
        self._idle: list[AbstractConnection] = []
        self._doubtful: deque[int] = deque(maxlen=_MAX_DOUBTFUL)
        self._closed = False

    def make(self, timeout: float) -> AbstractConnection:
        """A connection, not yet connected; each step of connecting may take ``timeout`` seconds."""
        return self._class(**self._options, socket_timeout=timeout, socket_connect_timeout=timeout)

    def call(self, commands: Sequence[Command]) -> list[Any]:
        """Replies in order; :class:`OutOfMemoryError` comes as a value, as it says nothing about the server's health.

        Raises:
            RedisError, OSError: the operation failed, whole.
        """
        deadline = time.monotonic() + self._timeout
        if not self._room.acquire(timeout=self._timeout):
            raise RedisTimeoutError("no connection became free")
        try:
            connection = self._take()
            try:
                replies = _exchange(connection, commands, deadline)
            except BaseException:
                self._doubt(connection)
                connection.disconnect()
                raise
            self._give_back(connection)
        finally:
            self._room.release()
        for reply in replies:
            if isinstance(reply, ResponseError) and not isinstance(reply, OutOfMemoryError):
                raise reply
        return replies

    def take_doubtful(self) -> list[int]:
        """Server-side ids of connections that failed in use: what was sent on them may still be carried out, late.

        Whoever needs to know that it will not has the server kill them first.
        """
        with self._lock:
            ids = list(self._doubtful)
            self._doubtful.clear()
            return ids

    def give_back_doubtful(self, ids: list[int]) -> None:
        """They could not be killed yet."""
        with self._lock:
            self._doubtful.extend(ids)

    def _doubt(self, connection: AbstractConnection) -> None:
        known: dict[Any, Any] = dict(connection.handshake_metadata or {})
        number = known.get(b"id", known.get("id"))
        if isinstance(number, int):
            self.give_back_doubtful([number])

    def close(self) -> None:
        """Close what is idle, and later what is in use."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()

    def _take(self) -> AbstractConnection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = self.make(self._timeout * _HANDSHAKE_SHARE)
                connection.connect()
                return connection
            try:
                if not connection.can_read(0):  # data that nobody asked for is as bad as an end
                    return connection
            except (RedisError, OSError):
                pass
            connection.disconnect()

    def _give_back(self, connection: AbstractConnection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.disconnect()


def _exchange(connection: AbstractConnection, commands: Sequence[Command], deadline: float) -> list[Any]:
    connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies: list[Any] = []
    for _ in commands:
        left = deadline - time.monotonic()
        if left <= 0:
            raise RedisTimeoutError("the operation's time is over")
        try:
            replies.append(connection.read_response(timeout=left))
        except RedisConnectionError:
            raise
        except ResponseError as error:
            replies.append(error)
    return replies


def _options(url: str) -> tuple[type[AbstractConnection], dict[str, Any]]:
    try:
        pool = ConnectionPool.from_url(url)
    except ValueError as error:
        raise InvalidInputError(
            f"the Redis URL is not usable: {safe_address(url)}; it starts with redis://, rediss:// or unix://",
            field="redis_url",
        ) from error
    kind: type[AbstractConnection] = pool.connection_class or Connection
    known = ("host", "port", "path", "db", "username", "password")
    options = {k: v for k, v in pool.connection_kwargs.items() if k in known or k.startswith("ssl_")}
    quiet = {
        "protocol": 3,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
        "health_check_interval": 0,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    return kind, options | quiet
