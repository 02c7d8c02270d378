"""What a phone's viewers see: a history, and three things of which only the newest counts.

Nothing is queued per viewer. A viewer is a place in the history and the last frame, state and thought it was sent, so a
slow one costs nothing and misses no entry: it jumps to the newest frame and reads the history on from its place.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autoglm.errors import AutoGLMError

Event = dict[str, Any]


class LaggedError(AutoGLMError):
    """A viewer's place in the history is older than what is remembered."""

    kind = "lagged"


@dataclass(frozen=True, slots=True)
class Thought:
    """What the model has written so far in one step."""

    task: int = 0
    step: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """How often the screen may have changed, and the app in front."""

    number: int = 0
    app: str = ""


class Journal:
    """Belongs to one event loop; ``limit`` entries are remembered."""

    def __init__(self, limit: int) -> None:
        self._entries: deque[Event] = deque(maxlen=limit)
        self._next = 1
        self._changed = asyncio.Event()
        self.frame = Frame()
        self.state: Event = {}
        self.thought = Thought()
        self.closed: str | None = None

    @property
    def first(self) -> int:
        """Number of the oldest entry that is remembered."""
        return self._next - len(self._entries)

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change. Take it before reading, wait on it after."""
        return self._changed

    def add(self, kind: str, **fields: Any) -> None:
        """Append an entry to the history."""
        self._entries.append({"type": kind, "seq": self._next, "time": time.time()} | fields)
        self._next += 1
        self.wake()

    def since(self, seq: int) -> list[Event]:
        """Entries from ``seq`` on. Raises :class:`LaggedError` if one of them has been forgotten."""
        if seq < self.first:
            raise LaggedError(
                f"entry {seq} is forgotten; the history begins at {self.first}",
                field="after",
                limit=self.first,
                value=seq,
            )
        skip = seq - self.first
        return [entry for i, entry in enumerate(self._entries) if i >= skip]

    def new_frame(self, app: str) -> None:
        """The screen may have changed; ``app`` is in front now."""
        self.frame = Frame(self.frame.number + 1, app)
        self.wake()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The phone's state as a whole."""
        if self.state != state:
            self.state = dict(state)
            self.wake()

    def set_thought(self, thought: Thought) -> None:
        """More text of the step, or the next step."""
        self.thought = thought
        self.wake()

    def close(self, reason: str) -> None:
        """No more entries; viewers get ``reason`` and end."""
        self.closed = self.closed or reason
        self.wake()

    def wake(self) -> None:
        """Wake every viewer once."""
        self._changed.set()
        self._changed = asyncio.Event()


class Viewer:
    """One reader's place.

    Args:
        after: number of the last entry already seen; ``None``: everything that is remembered.
    """

    def __init__(self, journal: Journal, after: int | None) -> None:
        self._journal = journal
        self._next = journal.first if after is None else after + 1
        self._frame: Frame | None = None
        self._state: Event | None = None
        self._thought = Thought()

    def take(self) -> Iterator[Event]:
        """Everything new. The history comes before the frame that it led to. Raises :class:`LaggedError`."""
        journal = self._journal
        for entry in journal.since(self._next):
            self._next = entry["seq"] + 1
            yield entry
        if journal.state != self._state:
            self._state = journal.state
            yield {"type": "state", "phone": journal.state}
        yield from self._new_thought(journal.thought)
        if journal.frame != self._frame:
            self._frame = journal.frame
            yield {"type": "frame", "frame": journal.frame.number, "app": journal.frame.app}
        if journal.closed is not None:
            yield {"type": "closed", "reason": journal.closed}

    def _new_thought(self, now: Thought) -> Iterator[Event]:
        last = self._thought
        same = (now.task, now.step) == (last.task, last.step) and now.text.startswith(last.text)
        start = len(last.text) if same else 0
        self._thought = now
        if len(now.text) > start:
            yield {"type": "thought", "task": now.task, "step": now.step, "at": start, "text": now.text[start:]}
