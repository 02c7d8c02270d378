"""One load through both levels, as a sequence of steps that a thread or a coroutine carries out."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from autoglm.cache.tiered.codec import Codec, Frame, Kind, frame, pack
from autoglm.cache.tiered.coherence import Cell, Copies
from autoglm.cache.tiered.config import TieredConfig
from autoglm.cache.tiered.counters import Counters
from autoglm.cache.tiered.flights import Outcome
from autoglm.cache.tiered.found import Found, Status

if TYPE_CHECKING:
    from autoglm.cache.tiered.shared import SharedLevel

log = logging.getLogger(__name__)
V = TypeVar("V")
_FIRST_PAUSE, _MAX_PAUSE = 0.002, 0.05
BAD_BODY = (ValueError, msgspec.DecodeError, msgspec.ValidationError)


@dataclass(frozen=True, slots=True)
class Do:
    """Run a short blocking call; its result is sent back."""

    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Run the caller's loader; its value is sent back, its error thrown in."""


Step = Do | Pause | Load
Steps = Generator[Step, Any, Outcome[V]]


class Loading(Generic[V]):
    """Builds the steps. Holds no state of a load; thread-safe."""

    def __init__(
        self,
        config: TieredConfig,
        codec: Codec[V],
        copies: Copies[V],
        shared: SharedLevel | None,
        counters: Counters,
        rng: random.Random,
    ) -> None:
        self.config = config
        self.codec = codec
        self.copies = copies
        self.shared = shared
        self.counters = counters
        self._rng = rng

    def fetch(self, key: str) -> Steps[V]:
        """Look into the shared level, load nothing."""
        if self.shared is None:
            self.counters.add("misses")
            return Outcome(None)
        token = self.copies.begin(key)
        found = yield Do(partial(self.shared.fetch, self.name(key)))
        if isinstance(found, Found) and (cell := self.cell_of(found)) is not None:
            return self._keep(key, token, cell)
        self.copies.give_up(key, token)
        self.counters.add("misses")
        return Outcome(None)

    def fetch_or_load(self, key: str, ttl: float | None) -> Steps[V]:
        """Look into the shared level; if nobody loads ``key``, do it, under a lease."""
        lease = self.config.load_lease
        waited, pause = 0.0, _FIRST_PAUSE
        while True:
            token = self.copies.begin(key)
            if self.shared is None:
                return (yield from self._load(key, ttl, token, b""))
            found = yield Do(partial(self.shared.fetch, self.name(key)))
            if not isinstance(found, Found):
                return (yield from self._load(key, ttl, token, b""))
            cell = self.cell_of(found)
            if cell is not None:
                return self._keep(key, token, cell)
            if found.frame is not None and found.frame.kind == Kind.LOADING and waited < 2 * lease:
                self.copies.give_up(key, token)
                self.counters.add("waits")
                yield Pause(pause)
                waited, pause = waited + pause, min(2 * pause, _MAX_PAUSE)
                continue
            if found.id:  # unreadable here: another version's, or a leader that never came back
                return (yield from self._load(key, ttl, token, found.id))
            mark = yield Do(partial(self.shared.begin_load, self.name(key), lease))
            if isinstance(mark, bytes):
                return (yield from self._load(key, ttl, token, mark))
            if waited >= 2 * lease or mark in (Status.AWAY, Status.FULL):
                return (yield from self._load(key, ttl, token, b""))
            # Refused: another process has the lease, which shows in time.
            self.copies.give_up(key, token)
            yield Pause(pause)
            waited, pause = waited + max(pause, lease / 4), min(2 * pause, _MAX_PAUSE)

    def reload(self, key: str, ttl: float | None) -> Steps[V]:
        """Replace what the shared level holds, if it is still that when the new value has come."""
        token = self.copies.begin(key)
        if self.shared is None:
            return (yield from self._load(key, ttl, token, b""))
        if not (yield Do(partial(self.shared.lock, self.name(key), self.config.load_lease))):
            self.copies.give_up(key, token)
            return Outcome(None, current=False)
        found = yield Do(partial(self.shared.fetch, self.name(key)))
        try:
            if isinstance(found, Found) and found.frame is not None and found.frame.kind != Kind.LOADING:
                return (yield from self._load(key, ttl, token, found.id))
            self.copies.give_up(key, token)
            return Outcome(None, current=False)
        finally:
            yield Do(partial(self.shared.unlock, self.name(key)))

    def cell_of(self, found: Found) -> Cell[V] | None:
        """A copy of what the shared level holds; ``None`` if that is nothing, a mark, or not readable here."""
        held = found.frame
        if held is None or held.kind == Kind.LOADING:
            return None
        value: V | None = None
        if held.kind == Kind.VALUE:
            if (held.tag, held.version) != (self.codec.tag, self.codec.version):
                self.counters.add("unreadable")
                return None
            try:
                value = self.codec.decode(held.body)
            except BAD_BODY:
                self.counters.add("unreadable")
                return None
        life = min(found.left, held.ttl_ms / 1000)
        return self._cell(value, life, held.ttl_ms / 1000, held.cost_ms / 1000, found.size, backed=True)

    def frame_of(self, value: V | None, ttl: float | None, cost: float = 0.0) -> tuple[Frame, float]:
        """``value`` framed, and its life with jitter. Raises :class:`ValueError` for a value that cannot be."""
        base = (self.config.ttl if ttl is None else ttl) if value is not None else self.config.negative_ttl
        life = base * self._rng.uniform(1 - self.config.jitter, 1 + self.config.jitter)
        if value is None:
            return frame(Kind.ABSENT, life, cost=cost), life
        try:
            body = self.codec.encode(value)
        except (TypeError, OverflowError) as error:
            raise ValueError(str(error)) from error
        return frame(Kind.VALUE, life, self.codec, body, cost), life

    def local_cell(self, value: V | None, life: float, cost: float, size: int, *, backed: bool) -> Cell[V]:
        """A copy of a value that did not come from the shared level."""
        return self._cell(value, life, life, cost, size, backed=backed)

    def name(self, key: str) -> str:
        """The key's name in the shared level."""
        return f"{self.config.name}:{key}"

    def _load(self, key: str, ttl: float | None, token: int, mark: bytes) -> Steps[V]:
        """Run the loader and store its value; under ``mark``, in the shared level too."""
        started = time.perf_counter()
        try:
            value = yield Load()
        except GeneratorExit:
            raise
        except BaseException:
            self.copies.give_up(key, token)
            self.counters.add("load_failures")
            if mark and self.shared is not None:
                yield Do(partial(self.shared.end_load, self.name(key), mark))
            raise
        cost = time.perf_counter() - started
        self.counters.add("misses")
        self.counters.add("loads")
        self.counters.add("load_seconds", cost)
        return (yield from self._store(key, value, ttl, token, mark, cost))

    def _store(self, key: str, value: V | None, ttl: float | None, token: int, mark: bytes, cost: float) -> Steps[V]:
        shared = self.shared
        try:
            made, life = self.frame_of(value, ttl, cost)
        except ValueError as error:
            log.warning("%s: a value cannot be stored: %s", self.config.name, error)
            made, life = frame(Kind.ABSENT, 0), 0.0
        data = pack(made)
        if life <= 0 or (shared is not None and mark and len(data) > shared.config.max_value_bytes):
            self.counters.add("not_stored")
            self.copies.give_up(key, token)
            if mark and shared is not None:
                yield Do(partial(shared.end_load, self.name(key), mark))
            return Outcome(value)
        if shared is not None and mark:
            status = yield Do(partial(shared.put_if, self.name(key), mark, data, life))
            if status is Status.DONE:
                # An own write fills no copy: its push is still to come, and cannot be told from another's.
                self.copies.give_up(key, token)
                return Outcome(value)
            if status is Status.REFUSED:
                self.counters.add("dropped_loads")
                self.copies.give_up(key, token)
                return Outcome(value, current=False)
            if status is Status.FULL:  # nobody need wait for a value that cannot be stored
                yield Do(partial(shared.end_load, self.name(key), mark))
        cell = self._cell(value, life, life, cost, len(data), backed=shared is None)
        return Outcome(value, self.copies.commit(key, token, cell))

    def _keep(self, key: str, token: int, cell: Cell[V]) -> Outcome[V]:
        self.counters.add("negative_hits" if cell.value is None else "shared_hits")
        return Outcome(cell.value, self.copies.commit(key, token, cell))

    def _cell(self, value: V | None, left: float, life: float, cost: float, size: int, *, backed: bool) -> Cell[V]:
        now = self.copies.clock()
        expires = now + left
        return Cell(value, now, expires, expires - life * (1 - self.config.refresh_at), backed, cost, size)
