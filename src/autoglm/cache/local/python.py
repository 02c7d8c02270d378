"""The implementation in Python: the extension's twin, for where no compiler is at hand.

It keeps the extension's order of steps, so that both evict alike. Python code of keys runs only in :meth:`_find` (which
checks the version afterwards); that of clocks, weighers and listeners outside the lock. A finaliser or a signal handler
can run between any two lines, which the extension does not let happen; one that calls a cache which is just changing
on the same thread gets a :class:`RuntimeError`.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from autoglm.cache.local import policies
from autoglm.cache.local.base import Clock, K, Listener, LocalCache, Row, V, Weigher, core_arguments
from autoglm.cache.local.config import FOREVER_MS, MAX_WEIGHT, LocalConfig
from autoglm.cache.local.nodes import Node
from autoglm.cache.local.sketch import mix
from autoglm.cache.local.stats import CAUSES, Cause, Counts

_TICKS_MAX = (1 << 48) - 1
_ROOM_STEP = 16
_ABSENT: Any = object()

Removed = list[tuple[Any, Any, Cause]]


class _Section:
    """The lock of one cache, and whether the thread that holds it is in the middle of a change."""

    __slots__ = ("_lock", "busy")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.busy = False

    def __enter__(self) -> None:
        self._lock.acquire()
        if self.busy:
            self._lock.release()
            raise RuntimeError("the cache was called by a finaliser or signal handler while it changes")
        self.busy = True

    def __exit__(self, *_: object) -> None:
        self.busy = False
        self._lock.release()


class PythonCache(LocalCache[K, V]):
    """See :class:`LocalCache`. One lock per cache."""

    __slots__ = (
        "__weakref__",
        "_capacity",
        "_clock",
        "_count",
        "_counters_",
        "_epoch",
        "_free",
        "_hand",
        "_listener",
        "_max_weight",
        "_policy",
        "_removed",
        "_room",
        "_section",
        "_slots",
        "_table",
        "_ttl",
        "_version",
        "_weigher",
        "_weight",
        "config",
    )

    def __init__(
        self,
        config: LocalConfig | None = None,
        *,
        weigher: Weigher[K, V] | None = None,
        listener: Listener[K, V] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config or LocalConfig()
        self._max_weight, self._ttl, _, self._weigher, self._listener = core_arguments(self.config, weigher, listener)
        self._capacity = self._room = self.config.max_entries
        self._clock = clock or time.monotonic
        self._epoch = self._clock()
        if not math.isfinite(self._epoch):
            raise ValueError("the clock did not return a finite number of seconds")
        self._section = _Section()
        self._policy = policies.make(self.config.policy, self._capacity)
        self._table: dict[int, Node] = {}
        self._slots: list[Node | None] = []
        self._free: list[int] = []
        self._hand = self._count = self._weight = self._version = 0
        self._counters_ = [0, 0, 0, 0, 0, 0.0, 0, 0]
        self._removed = dict.fromkeys(CAUSES, 0)

    # --- look-up --------------------------------------------------------------------------------------------------

    def get(self, key: K, default: Any = None, /) -> Any:
        hashed, now = hash(key), self._now()
        removed: Removed = []
        with self._section:
            node = self._find(key, hashed)
            value = _ABSENT if node is None else self._use(node, now, removed)
            if value is _ABSENT:
                self._add(1, 1)
        self._tell(removed)
        return default if value is _ABSENT else value

    def peek(self, key: K, default: Any = None, /) -> Any:
        hashed, now = hash(key), self._now()
        with self._section:
            node = self._find(key, hashed)
            return default if node is None or _expired(node, now) else node.value

    def __contains__(self, key: object, /) -> bool:
        return self.peek(key, _ABSENT) is not _ABSENT  # type: ignore[arg-type]

    def __getitem__(self, key: K, /) -> V:
        value = self.get(key, _ABSENT)
        if value is _ABSENT:
            raise KeyError(key)
        return value  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return self._count

    # --- change ---------------------------------------------------------------------------------------------------

    def put(self, key: K, value: V, /, ttl: float | None = None, weight: int | None = None) -> bool:
        hashed, now = hash(key), self._now()
        lifetime = self._ttl if ttl is None else _milliseconds(ttl)
        bytes_ = self._weigh(key, value, weight)
        removed: Removed = []
        with self._section:
            node = self._find(key, hashed)
            fresh = Node(mix(hashed))
            fresh.key, fresh.value, fresh.hashed = key, value, hashed
            fresh.written, fresh.ttl, fresh.weight = now, lifetime, bytes_
            stored = self._store(node, fresh, now, removed)
        self._tell(removed)
        return stored

    def __setitem__(self, key: K, value: V, /) -> None:
        self.put(key, value)

    def remove(self, key: K, /) -> bool:
        hashed, now = hash(key), self._now()
        removed: Removed = []
        with self._section:
            node = self._find(key, hashed)
            there = node is not None and not _expired(node, now)
            if node is not None:
                self._take_out(node, Cause.EXPLICIT if there else Cause.EXPIRED, now, removed)
        self._tell(removed)
        return there

    def __delitem__(self, key: K, /) -> None:
        if not self.remove(key):
            raise KeyError(key)

    def clear(self) -> None:
        removed: Removed = []
        with self._section:
            for node in self._policy.order():
                self._take_out(node, Cause.EXPLICIT, 0, removed)
        self._tell(removed)

    def purge(self) -> int:
        now = self._now()
        removed: Removed = []
        with self._section:
            for node in list(self._slots):
                if node is not None and _expired(node, now):
                    self._take_out(node, Cause.EXPIRED, now, removed)
        count = len(removed)
        self._tell(removed)
        return count

    def _resize(self, max_entries: int, max_weight: int, /) -> None:
        now = self._now()
        removed: Removed = []
        with self._section:
            self._capacity, self._max_weight = min(max_entries, self._capacity), max_weight
            self._shrink(None, now, removed)
            nodes = self._policy.order()
            self._policy = self._policy.resized(max_entries)
            self._capacity = self._room = max_entries
            self._slots = list(nodes)
            for slot, node in enumerate(nodes):
                node.slot = slot
            self._free = []
            self._hand = 0
            self._version += 1
        self._tell(removed)

    # --- what it tells --------------------------------------------------------------------------------------------

    def _snapshot(self) -> list[Row[K, V]]:
        now = self._now()
        with self._section:
            nodes = [node for node in self._policy.order() if not _expired(node, now)]
            rows: list[Any] = [
                (n.key, n.value, max(now - n.written, 0), -1 if n.ttl == FOREVER_MS else n.ttl, n.weight) for n in nodes
            ]
        return rows

    def _counters(self) -> Counts:
        with self._section:
            values: Any = (*self._counters_, self._weight, tuple(self._removed.values()))
        return values  # type: ignore[no-any-return]

    def _loaded(self, seconds: float, failed: bool, /) -> None:
        with self._section:
            self._add(3, 1)
            self._add(4, int(failed))
            self._add(5, seconds)

    def _segments(self) -> tuple[int, int, int, int, int]:
        with self._section:
            return (*self._policy.sizes(), self._room)

    def _limits(self) -> tuple[int, int]:
        return self._capacity, self._max_weight

    # --- steps, in the extension's order --------------------------------------------------------------------------

    def _now(self) -> int:
        """Microseconds since the cache was made; a clock that went back before that reads as zero."""
        seconds = self._clock()
        if not math.isfinite(seconds):
            raise ValueError("the clock did not return a finite number of seconds")
        return max(0, min(int((seconds - self._epoch) * 1e6), _TICKS_MAX))

    def _weigh(self, key: K, value: V, weight: int | None) -> int:
        if weight is None:
            if self._weigher is None:
                return 0
            weight = self._weigher(key, value)
        if not isinstance(weight, int):
            raise TypeError(f"weight must be an integer, got {type(weight).__name__}")
        if not 0 <= weight <= MAX_WEIGHT:
            raise ValueError(f"weight must be 0 to {MAX_WEIGHT} bytes, got {weight!r}")
        return weight

    def _add(self, index: int, amount: float) -> None:
        if self.config.statistics:
            self._counters_[index] += amount

    def _find(self, key: object, hashed: int) -> Node | None:
        while True:
            version, node = self._version, self._table.get(hashed)
            while node is not None and node.key is not key:
                self._section.busy = False
                try:
                    same = bool(node.key == key)
                finally:
                    self._section.busy = True
                if version != self._version or same:
                    break
                node = node.chain
            if version == self._version:
                return node

    def _use(self, node: Node, now: int, removed: Removed) -> Any:
        if _expired(node, now):
            self._take_out(node, Cause.EXPIRED, now, removed)
            return _ABSENT
        self._add(0, 1)
        self._add(6, max(now - node.written, 0))
        self._policy.count(node.mixed)
        self._policy.touch(node)
        return node.value

    def _store(self, node: Node | None, fresh: Node, now: int, removed: Removed) -> bool:
        heavy = self._max_weight >= 0 and fresh.weight > self._max_weight
        if node is not None and (heavy or _expired(node, now)):
            self._take_out(node, Cause.EXPIRED if _expired(node, now) else Cause.REPLACED, now, removed)
            node = None
        self._add(2, 1)
        if heavy:
            self._note(fresh.key, fresh.value, Cause.WEIGHT, removed)
            return False
        self._policy.count(fresh.mixed)
        if node is not None:
            self._note(node.key, node.value, Cause.REPLACED, removed)
            self._weight += fresh.weight - node.weight
            node.value, node.written, node.ttl, node.weight = fresh.value, fresh.written, fresh.ttl, fresh.weight
            self._policy.touch(node)
        else:
            self._crawl(now, removed)
            self._insert(fresh)
            node = fresh
        if self._over():
            return self._shrink(node, now, removed)
        self._policy.settle()
        return True

    def _over(self) -> bool:
        return self._count > self._capacity or 0 <= self._max_weight < self._weight

    def _crawl(self, now: int, removed: Removed) -> None:
        """One slot per insertion: what nobody asks for again leaves in time, whatever the policy thinks of it."""
        if self._slots:
            self._hand = self._hand + 1 if self._hand + 1 < len(self._slots) else 0
            node = self._slots[self._hand]
            if node is not None and _expired(node, now):
                self._take_out(node, Cause.EXPIRED, now, removed)

    def _insert(self, node: Node) -> None:
        if self._free:
            node.slot = self._free.pop()
            self._slots[node.slot] = node
        else:
            node.slot = len(self._slots)
            self._slots.append(node)
        node.chain = self._table.get(node.hashed)
        self._table[node.hashed] = node
        self._weight += node.weight
        self._policy.insert(node)
        self._count += 1
        self._version += 1
        if self._count > self._room and self._room < self._capacity:
            self._set_room(min(self._count + self._count // _ROOM_STEP, self._capacity))

    def _shrink(self, keep: Node | None, now: int, removed: Removed) -> bool:
        """Evict until both limits hold; whether ``keep`` is still there."""
        kept = True
        while self._over():
            cause = Cause.SIZE if self._count > self._capacity else Cause.WEIGHT
            node = self._policy.victim(keep)
            if node is None:
                raise RuntimeError("the cache is over a limit but empty")
            kept = kept and node is not keep
            self._take_out(node, Cause.EXPIRED if _expired(node, now) else cause, now, removed)
            if cause is Cause.WEIGHT and self._count < self._room - self._room // _ROOM_STEP:
                self._set_room(self._count)
        return kept

    def _set_room(self, room: int) -> None:
        self._room = room
        self._policy.set_room(room)

    def _take_out(self, node: Node, cause: Cause, now: int, removed: Removed) -> None:
        above = self._table[node.hashed]
        if above is node:
            if node.chain is None:
                del self._table[node.hashed]
            else:
                self._table[node.hashed] = node.chain
        else:
            while above.chain is not node:
                above = above.chain  # type: ignore[assignment]
            above.chain = node.chain
        self._policy.remove(node)
        self._note(node.key, node.value, cause, removed)
        self._weight -= node.weight
        if cause in (Cause.SIZE, Cause.WEIGHT, Cause.EXPIRED):
            self._add(7, max(now - node.written, 0))
        self._slots[node.slot] = None
        self._free.append(node.slot)
        self._count -= 1
        self._version += 1

    def _note(self, key: object, value: object, cause: Cause, removed: Removed) -> None:
        removed.append((key, value, cause))
        if self.config.statistics:
            self._removed[cause] += 1

    def _tell(self, removed: Removed) -> None:
        """Call the listener for each; an error (not an ``Exception``: those are logged) does not stop the rest."""
        listener = self._listener
        if listener is None:
            return
        error: BaseException | None = None
        for key, value, cause in removed:
            try:
                listener(key, value, cause)
            except BaseException as raised:
                error = raised
        if error is not None:
            raise error


def _expired(node: Node, now: int) -> bool:
    return node.ttl != FOREVER_MS and now >= node.written + node.ttl * 1000


def _milliseconds(ttl: float) -> int:
    if ttl == math.inf:
        return FOREVER_MS
    milliseconds = math.ceil(ttl * 1000) if math.isfinite(ttl) else 0
    if not 1 <= milliseconds < FOREVER_MS:
        raise ValueError(f"ttl must be above 0 and below 4294967 seconds, or infinite, got {ttl!r}")
    return milliseconds
