"""Single flight: one load per key at a time, whoever waits for it, thread or coroutine."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

from autoglm.errors import AutoGLMError

V = TypeVar("V")


class AbandonedError(Exception):
    """The leader was ended from outside, so there is neither a value nor an error; followers start again."""


class RecursiveLoadError(AutoGLMError):
    """A loader asked its own cache for the key it is loading; waiting for itself would never end."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[V]):
    """What a load gave.

    Attributes:
        value: ``None``: there is none.
        current: nothing was heard of a change of the key during the load. If something was, the value is still
            right for who asked first, but not for those who came later: they ask again.
    """

    value: V | None
    current: bool = True


class Flight(Generic[V]):
    """One load under way. ``future`` cannot be cancelled: followers belong to other callers."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: Future[Outcome[V]] = Future()
        self.future.set_running_or_notify_cancel()


# Loads that the present task or thread is inside of: (identity of the cache, key).
loading: ContextVar[frozenset[tuple[int, str]]] = ContextVar("loading", default=frozenset())


class Flights(Generic[V]):
    """The loads of one cache. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[str, Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, key: str) -> tuple[Flight[V], bool]:
        """The flight of ``key``, and whether the caller leads it and must end it by :meth:`land` or :meth:`fail`.

        Raises:
            RecursiveLoadError: the caller is this flight's own loader.
        """
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = Flight()
                return flight, True
        if (id(self), key) in loading.get():
            raise RecursiveLoadError(f"the loader of {key[:80]!r} asks for {key[:80]!r}", field="key", value=key[:80])
        return flight, False

    def start(self, key: str) -> Flight[V] | None:
        """Lead a new flight; ``None`` if there is one."""
        with self._lock:
            if key in self._flights:
                return None
            flight = self._flights[key] = Flight()
            return flight

    def land(self, key: str, flight: Flight[V], outcome: Outcome[V]) -> None:
        self._leave(key, flight)
        flight.future.set_result(outcome)

    def fail(self, key: str, flight: Flight[V], error: BaseException) -> None:
        """All followers get ``error``; nothing of it is kept."""
        self._leave(key, flight)
        flight.future.set_exception(error)

    def detach(self, key: str) -> None:
        """The key has changed: callers from now on start a new flight; those who wait keep theirs."""
        with self._lock:
            self._flights.pop(key, None)

    def detach_all(self) -> None:
        with self._lock:
            self._flights.clear()

    def _leave(self, key: str, flight: Flight[V]) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
