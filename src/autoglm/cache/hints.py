"""Sessions whose KV should stay for a hinted time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from autoglm.cache.prefix import Node
from autoglm.cache.shields import Shield, Shields

Session = tuple[str, str]
"""(salt, session id): tenants never meet"""


@dataclass(slots=True, eq=False)
class _Record:
    leaf: Node
    blocks: int
    until: float = 0.0
    shield: Shield | None = None


class SessionHints:
    """Remembers where each session's chain ends and shields it until its time is up.

    Hints are soft and bounded: at most ``most_blocks`` are shielded, the hint renewed longest ago gives way, and a
    longer session gets none; of sessions without a hint as many blocks again are remembered.

    Not thread-safe: the engine's loop owns it.
    """

    def __init__(self, shields: Shields, most_blocks: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._shields = shields
        self._most = most_blocks
        self._clock = clock
        self._records: OrderedDict[Session, _Record] = OrderedDict()
        self._due: list[tuple[float, Session]] = []
        self._blocks = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def kept_blocks(self) -> int:
        """Blocks of sessions that are kept now; shared ones count for each."""
        return sum(r.blocks for r in self._records.values() if r.shield is not None)

    def note(self, session: Session, leaf: Node | None, seconds: float = 0.0) -> None:
        """A request of the session ended with its KV in the chain up to ``leaf``; keep it for ``seconds`` from now."""
        old = self._records.get(session)
        until = max(self._clock() + seconds, old.until if old is not None else 0.0)
        self.forget(session)
        if leaf is None:
            return
        record = self._records[session] = _Record(leaf, _depth(leaf))
        self._blocks += record.blocks
        self.keep(session, until - self._clock())
        while self._blocks > 2 * self._most and len(self._records) > 1:
            self.forget(next(iter(self._records)))

    def keep(self, session: Session, seconds: float) -> bool:
        """Keep the session's chain for ``seconds`` from now; 0 lets go of it. Whether the session is known."""
        record = self._records.get(session)
        if record is None:
            return False
        self._let_go(record)
        record.until = self._clock() + max(0.0, seconds)
        if seconds > 0 and record.blocks <= self._most:
            record.shield = self._shields.of_chain(record.leaf)
            heappush(self._due, (record.until, session))
            self._records.move_to_end(session)
            self._bound()
        if len(self._due) > 4 * len(self._records) + 64:
            self._due = sorted((r.until, s) for s, r in self._records.items() if r.shield is not None)
        return True

    def forget(self, session: Session) -> None:
        """Drop the hint and what is known of the session."""
        record = self._records.pop(session, None)
        if record is not None:
            self._let_go(record)
            self._blocks -= record.blocks

    def expire(self) -> None:
        """Let go of what is over; cheap when nothing is."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            _, session = heappop(self._due)
            record = self._records.get(session)
            if record is not None and record.until <= now:
                self._let_go(record)

    def _bound(self) -> None:
        kept = self.kept_blocks
        for record in self._records.values():
            if kept <= self._most:
                return
            if record.shield is not None:
                kept -= record.blocks
                self._let_go(record)

    def _let_go(self, record: _Record) -> None:
        if record.shield is not None:
            self._shields.drop(record.shield)
            record.shield = None


def _depth(leaf: Node) -> int:
    count, node = 0, leaf
    while node.parent is not None:
        count, node = count + 1, node.parent
    return count
