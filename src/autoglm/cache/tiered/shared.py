"""The second level: operations on Redis that never raise, never wait long, and say when they were not done."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redis.exceptions import OutOfMemoryError, RedisError

from autoglm.cache.breaker import Breaker
from autoglm.cache.tiered.codec import ID_BYTES, Kind, frame, pack, unpack
from autoglm.cache.tiered.config import SharedConfig
from autoglm.cache.tiered.connections import Command, Connections, safe_address
from autoglm.cache.tiered.counters import Counters
from autoglm.cache.tiered.found import NOTHING, Found, Status
from autoglm.cache.tiered.link import TrackingLink
from autoglm.cache.tiered.pending import PendingRemovals

log = logging.getLogger(__name__)
_SET_IF = (
    "if redis.call('GETRANGE',KEYS[1],0,7)==ARGV[1] "
    "then redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3]) return 1 end return 0"
)
_DROP_IF = "if redis.call('GETRANGE',KEYS[1],0,7)==ARGV[1] then return redis.call('UNLINK',KEYS[1]) end return 0"
_SCAN_COUNT = 1000


class SharedLevel:
    """One namespace of one Redis. Thread-safe; shared by all caches of a process.

    Every method returns within the operation's time limit, and at once while the breaker is open. A background thread
    probes until the server is back, delivers the removals that it missed, and closes the breaker.

    Use as a context manager, or call :meth:`close`.
    """

    def __init__(self, config: SharedConfig) -> None:
        self.config = config
        self.counters = Counters(("operations", "errors", "skipped", "no_room", "probes"))
        self.breaker = Breaker(config.first_probe, config.max_probe)
        self.pending = PendingRemovals(config.max_pending)
        self._values = f"{config.namespace}:v:"
        self._locks = f"{config.namespace}:l:"
        self._connections = Connections(config.url, config.connections, config.operation_timeout, config.password)
        self.link = TrackingLink(self._connections.make, self._values, heartbeat=config.heartbeat, lease=config.lease)
        self.executor = ThreadPoolExecutor(config.workers, "cache-shared")
        self._stop = threading.Event()
        self._at_return: list[Callable[[], None]] = []
        self._prober: threading.Thread | None = None
        self.link.start()

    @property
    def address(self) -> str:
        """For logs and statistics: without user and password."""
        return safe_address(self.config.url)

    @property
    def settled(self) -> bool:
        """The store is in use, and has been told everything."""
        prober = self._prober
        return self.breaker.closed and not len(self.pending) and (prober is None or not prober.is_alive())

    def __enter__(self) -> SharedLevel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all threads and close all connections."""
        self._stop.set()
        self.link.close()
        if self._prober is not None:
            self._prober.join(5.0)
        self.executor.shutdown(wait=True, cancel_futures=True)
        self._connections.close()

    def fetch(self, key: str) -> Found | Status:
        """What ``key`` holds, or ``Status.AWAY``."""
        replies = self.call(("GET", self._values + key), ("PTTL", self._values + key))
        return Status.AWAY if replies is None else self._found(replies[0], replies[1])

    def fetch_many(self, keys: list[str]) -> list[Found] | Status:
        """As :meth:`fetch`, in one round trip."""
        commands: list[Command] = []
        for key in keys:
            commands += [("GET", self._values + key), ("PTTL", self._values + key)]
        replies = self.call(*commands) if commands else []
        if replies is None:
            return Status.AWAY
        return [self._found(replies[i], replies[i + 1]) for i in range(0, len(replies), 2)]

    def put(self, key: str, data: bytes, ttl: float) -> Status:
        """Store, whatever is there. If that fails, ``key`` is removed as soon as the store is back."""
        return self._write(key, ("SET", self._values + key, data, "PX", _ms(ttl)))

    def put_if(self, key: str, expected: bytes, data: bytes, ttl: float) -> Status:
        """Store only if ``key`` still holds the bytes of identity ``expected``; empty: only if it holds nothing."""
        if len(data) > self.config.max_value_bytes:
            self.counters.add("no_room")
            return Status.FULL
        name = self._values + key
        command: Command = ("SET", name, data, "PX", _ms(ttl), "NX")
        if expected:
            command = ("EVAL", _SET_IF, 1, name, expected, data, _ms(ttl))
        return self._told(self.call(command))

    def remove(self, *keys: str) -> Status:
        """Remove. If that fails, it is done as soon as the store is back."""
        replies = self.call(("UNLINK", *(self._values + key for key in keys)))
        if replies is None:
            self.pending.add(*keys)
            # The probe may have emptied the set, and closed the breaker, just before: then it is up to us.
            return Status.DONE if self.breaker.closed and self.deliver() else Status.AWAY
        return Status.DONE

    def remove_all(self, prefix: str = "") -> Status:
        """Remove every key that begins with ``prefix``."""
        try:
            if self.breaker.closed:
                self.sweep(self._values + prefix)
                return Status.DONE
        except (RedisError, OSError) as error:
            self._failed(error)
        self.pending.add_all()
        return Status.AWAY

    def begin_load(self, key: str, lease: float) -> bytes | Status:
        """Say that this process loads ``key``: the mark's identity, for :meth:`put_if` and :meth:`end_load`.

        ``REFUSED``: somebody was faster; ``FULL``: there is no room.
        """
        mark = pack(frame(Kind.LOADING, lease))
        status = self.put_if(key, b"", mark, lease)
        return mark[:ID_BYTES] if status is Status.DONE else status

    def end_load(self, key: str, mark: bytes) -> None:
        """Take the mark away without a value, so that others need not wait."""
        self.call(("EVAL", _DROP_IF, 1, self._values + key, mark))

    def lock(self, name: str, seconds: float) -> bool:
        """Whether this process is now the one that does ``name``, for at most so long. Not tracked."""
        replies = self.call(("SET", self._locks + name, b"1", "PX", _ms(seconds), "NX"))
        return replies is not None and _is_ok(replies[0])

    def unlock(self, name: str) -> None:
        self.call(("UNLINK", self._locks + name))

    def call(self, *commands: Command) -> list[Any] | None:
        """Replies, or ``None`` if the store is away. For callers with commands of their own."""
        if not self.breaker.closed:
            self.counters.add("skipped")
            return None
        self.counters.add("operations")
        try:
            return self._connections.call(commands)
        except (RedisError, OSError) as error:
            self._failed(error)
            return None

    def at_return(self, deliver: Callable[[], None]) -> None:
        """``deliver`` is run by every probe, before the breaker closes; what it raises makes the probe fail.

        It talks to the server by :meth:`send` and :meth:`sweep`, which raise, and do not ask the breaker.
        """
        self._at_return.append(deliver)

    def send(self, *commands: Command) -> list[Any]:
        """Replies. Raises redis-py's errors and :class:`OSError`."""
        return self._connections.call(commands)

    def sweep(self, prefix: str) -> None:
        """Remove every key that begins with ``prefix``, which is whole. Raises as :meth:`send`."""
        cursor = b"0"
        pattern = "".join(f"\\{c}" if c in "*?[]\\^" else c for c in prefix) + "*"
        while not self._stop.is_set():
            cursor, names = self.send(("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT))[0]
            if names:
                self.send(("UNLINK", *names))
            if cursor == b"0":
                return

    def deliver(self) -> bool:
        """Ask for an answer, and tell the server of the removals that it has missed; whether that went well."""
        keys, everything = self.pending.take()
        doubtful = self._connections.take_doubtful()
        try:
            self.send(("PING",))
            for number in doubtful:
                # A write that timed out may sit in the server's buffer; it must not come after its removal.
                self.send(("CLIENT", "KILL", "ID", number))
            if everything:
                self.sweep(self._values)
            for start in range(0, len(keys), _SCAN_COUNT):
                self.send(("UNLINK", *(self._values + key for key in keys[start : start + _SCAN_COUNT])))
            for deliver in self._at_return:
                deliver()
        except (RedisError, OSError) as error:
            log.debug("the cache store did not take what it had missed: %s", error)
            if everything:
                self.pending.add_all()
            self.pending.add(*keys)
            self._connections.give_back_doubtful(doubtful)
            self._failed(error)  # if nobody probes yet: what waits must have somebody who delivers it
            return False
        finally:
            self.pending.end(keys)
        return True

    def _found(self, data: object, left: object) -> Found:
        if not isinstance(data, bytes) or not isinstance(left, int) or left == -2:
            return NOTHING
        seconds = left / 1000 if left >= 0 else float("inf")
        return Found(unpack(data), data[:ID_BYTES], seconds, len(data))

    def _write(self, key: str, command: Command) -> Status:
        if len(command[2]) > self.config.max_value_bytes:  # type: ignore[arg-type]
            self.counters.add("no_room")
            self.remove(key)
            return Status.FULL
        status = self._told(self.call(command))
        if status is not Status.DONE:
            # Redis refuses writes when it is full, but not removals: the old value must not outlive the new one.
            self.remove(key)
        return status

    def _told(self, replies: list[Any] | None) -> Status:
        if replies is None:
            return Status.AWAY
        if isinstance(replies[0], OutOfMemoryError):
            self.counters.add("no_room")
            return Status.FULL
        return Status.DONE if _is_ok(replies[0]) else Status.REFUSED

    def _failed(self, error: Exception) -> None:
        self.counters.add("errors")
        if self.breaker.trip():
            log.warning("cache store %s fails (%s): going on without it", self.address, error)
            self._prober = threading.Thread(target=self._probe, name="cache-probe", daemon=True)
            self._prober.start()

    def _probe(self) -> None:
        while not self._stop.wait(self.breaker.pause):
            self.breaker.probe()
            self.counters.add("probes")
            well = self.deliver()
            self.breaker.end_probe(well=well)
            if well:
                log.warning("cache store %s is back after %.2f s", self.address, self.breaker.last_outage)
                # Copies made meanwhile are of values that the store does not hold; their removal might not be told.
                self.link.tell_all()
                self.deliver()  # what was added between the first delivery and the closing
                return


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _is_ok(reply: object) -> bool:
    return reply in (b"OK", "OK", 1)
