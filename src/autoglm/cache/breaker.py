"""Circuit breaker in front of a store that other processes may take away."""

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
    """Says whether operations may try the store. Thread-safe; asking costs one attribute read while it is closed.

    The first failure opens it, as every operation after it would wait for its time-out, too. Then the owner either
    probes in the background, so that no caller pays for it (:meth:`probe`, every :attr:`pause` seconds), or, where one
    thread makes all calls, lets one of them do it after each pause (:meth:`admit`, then :meth:`settle`).

    Args:
        first_pause, longest_pause: seconds before the first probe, doubled with each that fails, up to the second.
    """

    def __init__(
        self, first_pause: float = 0.02, longest_pause: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._clock = clock
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._opened_at = self._paused_at = 0.0
        self.pause = first_pause
        self.opened = 0
        self.last_outage = 0.0

    @property
    def state(self) -> BreakerState:
        return self._state

    @property
    def closed(self) -> bool:
        return self._state is BreakerState.CLOSED

    @property
    def passable(self) -> bool:
        """Whether :meth:`admit` would let somebody try now."""
        if self.closed:
            return True
        return self._state is BreakerState.OPEN and self._clock() >= self._paused_at + self.pause

    def admit(self) -> bool:
        """Whether the caller may try: the breaker is closed, or its pause is over and the caller is the probe."""
        if self.closed:
            return True
        with self._lock:
            if not self.passable:
                return False
            if not self.closed:
                self._move(BreakerState.HALF_OPEN)
            return True

    def settle(self, *, well: bool) -> None:
        """What came of an admitted try."""
        if self._state is BreakerState.HALF_OPEN:
            self.end_probe(well=well)
        elif not well:
            self.trip()

    def trip(self) -> bool:
        """A failure of an operation; whether this one opened the breaker."""
        with self._lock:
            if self._state is not BreakerState.CLOSED:
                return False
            self._move(BreakerState.OPEN)
            self._opened_at = self._paused_at = self._clock()
            self.pause = self._first_pause
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
            self._paused_at = self._clock()
            if well:
                self.last_outage = self._paused_at - self._opened_at
            else:
                self.pause = min(2 * self.pause, self._longest_pause)

    def _move(self, state: BreakerState) -> None:
        if state not in _NEXT[self._state]:
            raise RuntimeError(f"breaker cannot go from {self._state.value} to {state.value}")
        self._state = state
