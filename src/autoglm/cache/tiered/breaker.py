"""Circuit breaker in front of the shared store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum


class BreakerState(Enum):
    """CLOSED -> OPEN on a failure; OPEN -> HALF_OPEN while one probe runs -> CLOSED or OPEN."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_NEXT = {
    BreakerState.CLOSED: {BreakerState.OPEN},
    BreakerState.OPEN: {BreakerState.HALF_OPEN},
    BreakerState.HALF_OPEN: {BreakerState.CLOSED, BreakerState.OPEN},
}


class Breaker:
    """Says whether operations may try the store. Thread-safe; asking costs one attribute read.

    The first failure opens it, as every operation after it would wait for its time-out, too. Callers never probe:
    the owner does, in the background, so that no caller pays for it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._opened_at = 0.0
        self.opened = 0
        self.last_outage = 0.0

    @property
    def state(self) -> BreakerState:
        return self._state

    @property
    def closed(self) -> bool:
        return self._state is BreakerState.CLOSED

    def trip(self) -> bool:
        """A failure of an operation; whether this one opened the breaker."""
        with self._lock:
            if self._state is not BreakerState.CLOSED:
                return False
            self._move(BreakerState.OPEN)
            self._opened_at = self._clock()
            self.opened += 1
            return True

    def probe(self) -> None:
        """A probe begins."""
        with self._lock:
            self._move(BreakerState.HALF_OPEN)

    def end_probe(self, *, well: bool) -> None:
        """The probe has ended."""
        with self._lock:
            self._move(BreakerState.CLOSED if well else BreakerState.OPEN)
            if well:
                self.last_outage = self._clock() - self._opened_at

    def _move(self, state: BreakerState) -> None:
        if state not in _NEXT[self._state]:
            raise RuntimeError(f"breaker cannot go from {self._state.value} to {state.value}")
        self._state = state
