"""Whether drafting as a whole pays: an account of the time it takes and saves, so that what it can lose is bounded."""

from __future__ import annotations

_TRIAL, _MOST, _LEAST = 1.5, 4.0, -6.0
_FREE, _LEAST_FREE = 0.01, 0.01 / 8
_DOWN, _UP = 1 / 2, 1 / 64


class Balance:
    """Whether drafts earn the time that thinking of them takes: a small model's step may be no longer than that.

    An account in steps (of the usual length). It begins with enough for a trial, gets 1% of every step, and what
    drafts gained; what thinking took, and rows of drafts that turned out wrong, are drawn from it. When it is empty
    there is a pause, until it holds enough for another trial. So the time lost never exceeds 1%, one trial and the step
    that overdrew it. As long as trials fail, each earns the next one at half the share of the one before, down to an
    eighth.

    Attributes:
        paused: whether nothing is to be drafted.
    """

    def __init__(self) -> None:
        self.paused = False
        self._credit = _TRIAL
        self._usual = self._thought = 0.0
        self._share = _FREE

    def thought(self, seconds: float) -> None:
        """So long it took to think of drafts."""
        self._thought += seconds

    def step(self, seconds: float, gained: float) -> None:
        """A decode step took so long; its accepted drafts saved ``gained`` seconds, less what their rows cost."""
        if seconds <= 0.0:
            return  # the clock stood still
        if not self._usual:
            self._usual = seconds
        # Soon down and slowly up: the first steps of an answer find other things in the processor's caches.
        self._usual += (_DOWN if seconds < self._usual else _UP) * (seconds - self._usual)
        free = self._share if self.paused else _FREE
        self._credit += (free * seconds + gained - self._thought) / self._usual
        self._thought = 0.0
        if self.paused:
            self.paused = self._credit < _TRIAL
        elif self._credit < 0.0:
            self.paused = True
            self._share = max(self._share / 2, _LEAST_FREE)
            self._credit = max(self._credit, _LEAST)  # one step that something else held up costs no age
        elif self._credit >= _MOST:
            self._credit = _MOST  # what was gained long ago must not pay for long losses
            self._share = _FREE
