"""First-level copies of shared values, and the rule that keeps an old one from being stored or served."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from autoglm.cache.tiered.level import FirstLevel

V = TypeVar("V")


@dataclass(slots=True, eq=False)
class Cell(Generic[V]):
    """One first-level entry. Times are on the monotonic clock.

    Attributes:
        value: ``None``: known to be absent.
        backed: the shared store holds it, so the link would tell of a change.
        hits: reads it served; not exact under threads, as it only ranks entries for the warm-up file.
    """

    value: V | None
    at: float
    expires: float
    refresh: float
    backed: bool
    cost: float
    size: int
    hits: int = 0


class Copies(Generic[V]):
    """The first level of one cache, kept coherent by fill tokens.

    Who wants to store a copy takes a token *before* it asks for the value. A change of the key drops the copy and
    the token; a copy is stored only if its token is still there. So whichever of reply and push is handled first,
    an old value is not kept. Both are done under one lock; a hit takes none.

    Args:
        fresh_until: time until which the link vouches for copies; infinity where there is no shared level.
        detached_ttl: age limit of a copy that nobody vouches for.
    """

    def __init__(
        self,
        level: FirstLevel[Cell[V]],
        fresh_until: Callable[[], float],
        detached_ttl: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.level = level
        self.clock = clock
        self._fresh_until = fresh_until
        self._detached_ttl = detached_ttl
        self._lock = threading.Lock()
        self._tokens: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self.dropped_fills = 0
        self.removed = 0
        self.cleared = 0

    def get(self, key: str, now: float) -> Cell[V] | None:
        """A copy that may be served at ``now``."""
        cell = self.level.get(key)
        if cell is None or now >= cell.expires:
            return None
        if (cell.backed and now < self._fresh_until()) or now - cell.at <= self._detached_ttl:
            cell.hits += 1
            return cell
        return None

    def begin(self, key: str) -> int:
        """A token for a fill of ``key``; an earlier one of the same key is void."""
        with self._lock:
            token = self._tokens[key] = next(self._numbers)
            return token

    def commit(self, key: str, token: int, cell: Cell[V]) -> bool:
        """Store, unless ``key`` has changed since ``token`` was given."""
        with self._lock:
            if self._tokens.get(key) != token:
                self.dropped_fills += 1
                return False
            del self._tokens[key]
            self.level.put(key, cell, ttl=max(cell.expires - cell.at, 1e-3), weight=cell.size)
            return True

    def give_up(self, key: str, token: int) -> None:
        """The fill does not happen."""
        with self._lock:
            if self._tokens.get(key) == token:
                del self._tokens[key]

    def drop(self, key: str) -> None:
        """``key`` has changed, or is about to."""
        with self._lock:
            self.removed += 1
            self._tokens.pop(key, None)
            self.level.remove(key)

    def drop_all(self) -> None:
        """Anything may have changed."""
        with self._lock:
            self.cleared += 1
            self._tokens.clear()
            self.level.clear()

    def items(self) -> Iterator[tuple[str, Cell[V]]]:
        """Copies that may be served now."""
        now = self.clock()
        for key, cell in self.level.items():
            if now < cell.expires:
                yield key, cell

    def figures(self) -> dict[str, float]:
        """Totals since start."""
        return {"dropped_fills": self.dropped_fills, "changes": self.removed, "clears": self.cleared}

    @property
    def open_fills(self) -> int:
        """Tokens given out and not yet used."""
        return len(self._tokens)


class PrefixListener:
    """Passes a link's messages to the copies of one cache, whose keys begin with ``prefix``."""

    def __init__(self, prefix: str, copies: Copies[V]) -> None:
        self._prefix = prefix
        self._copies = copies

    def changed(self, keys: list[str]) -> None:
        for key in keys:
            if key.startswith(self._prefix):
                self._copies.drop(key[len(self._prefix) :])

    def everything_changed(self) -> None:
        self._copies.drop_all()
