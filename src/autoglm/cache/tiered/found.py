"""Answers of the shared level."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from autoglm.cache.tiered.codec import Frame


class Status(Enum):
    """Outcome of an operation on the store."""

    DONE = "done"
    REFUSED = "refused"  # the key has changed
    FULL = "full"  # the store has no room
    AWAY = "away"  # the store did not answer, or was not asked


@dataclass(frozen=True, slots=True)
class Found:
    """What the store holds for a key.

    Attributes:
        frame: ``None``: nothing, or nothing readable.
        id: identity of the bytes for compare-and-set; empty if there is nothing.
        left: seconds it has to live.
        size: bytes.
    """

    frame: Frame | None
    id: bytes = b""
    left: float = 0.0
    size: int = 0


NOTHING = Found(None)
