"""Telling a run that goes in circles."""

from __future__ import annotations

import hashlib
from collections import deque

from autoglm.agent.actions import Action

Fingerprint = tuple[bytes, Action]


class RepeatDetector:
    """Remembers screens and actions, and says when the last of them are one short sequence, repeated.

    A period of 1 is the same action on the same screen; a period of 2 is going back and forth. Screens are equal if
    their encoded pictures are: a clock that moves makes another screen.

    Args:
        repeats: how often a sequence must stand in a row, at least 2.
        max_period: longest sequence looked for.
    """

    def __init__(self, repeats: int, max_period: int) -> None:
        self._repeats = repeats
        self._max_period = max_period
        self._seen: deque[Fingerprint] = deque(maxlen=repeats * max_period)

    def add(self, png: bytes, action: Action) -> int:
        """Add a step; the period of the circle it closes, or 0."""
        self._seen.append((hashlib.blake2b(png, digest_size=16).digest(), action))
        steps = list(self._seen)
        for period in range(1, self._max_period + 1):
            span = period * self._repeats
            last = steps[-span:]
            if len(last) == span and last == last[:period] * self._repeats:
                return period
        return 0
