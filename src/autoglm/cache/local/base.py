"""The first-level cache's interface, and all of it that both implementations share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, Self, TypeVar, overload

from autoglm.cache.local.config import LocalConfig, check_limits
from autoglm.cache.local.stats import Cause, Counts, LocalStats, from_counts
from autoglm.cache.local.weigh import payload_bytes

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

Weigher = Callable[[K, V], int]
Listener = Callable[[K, V, Cause], None]
Clock = Callable[[], float]
Row = tuple[K, V, int, int, int]

_MISSING: Any = object()
_log = logging.getLogger(__name__)


class LocalCache(Generic[K, V]):
    """A bounded map whose entries expire: hash table and linked lists over one slab, every operation O(1).

    Owner: whoever makes it. Thread-safe; keys, values, listeners, weighers and clocks may call back into the cache.

    ``LocalCache(...)`` makes an instance of the implementation that :attr:`LocalConfig.implementation` and the
    environment ask for; both are subclasses and behave alike, down to the order of evictions.

    Args:
        weigher: bytes of an entry, 0 to 2**48 - 1; without it entries weigh nothing, or, if there is a weight limit,
            what :func:`~autoglm.cache.local.weigh.payload_bytes` says.
        listener: called with key, value and cause for every value that leaves, on the thread whose call made it leave,
            after the cache has changed and before the call returns. Its errors are logged.
        clock: seconds, not going back; without it the system's monotonic clock. The extension reads the coarse one,
            which moves in steps of at most 10 ms.
    """

    __slots__ = ()

    config: LocalConfig

    def __new__(cls, config: LocalConfig | None = None, **_: object) -> Self:
        if cls is not LocalCache:
            return super().__new__(cls)
        from autoglm.cache.local.choose import implementation

        chosen: Any = implementation((config or LocalConfig()).implementation)
        made: Self = chosen.__new__(chosen)
        return made

    def __init__(
        self,
        config: LocalConfig | None = None,
        *,
        weigher: Weigher[K, V] | None = None,
        listener: Listener[K, V] | None = None,
        clock: Clock | None = None,
    ) -> None:
        raise NotImplementedError

    # --- what an implementation must do ---------------------------------------------------------------------------

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, default: D, /) -> V | D: ...
    def get(self, key: K, default: Any = None, /) -> Any:
        """The value, or ``default``; counts as a use. An expired entry is removed and is a miss."""
        raise NotImplementedError

    @overload
    def peek(self, key: K, /) -> V | None: ...
    @overload
    def peek(self, key: K, default: D, /) -> V | D: ...
    def peek(self, key: K, default: Any = None, /) -> Any:
        """Like :meth:`get`, but neither counted nor a use, and nothing is removed."""
        raise NotImplementedError

    def put(self, key: K, value: V, /, ttl: float | None = None, weight: int | None = None) -> bool:
        """Store, replacing what was there; whether it is there now.

        Args:
            ttl: seconds for this entry instead of the cache's; ``math.inf``: it never expires.
            weight: bytes, instead of asking the weigher.

        Raises:
            ValueError: a ttl or weight out of range; nothing has changed.
        """
        raise NotImplementedError

    def remove(self, key: K, /) -> bool:
        """Take the entry out (cause ``explicit``); whether it was there and had not expired."""
        raise NotImplementedError

    def clear(self) -> None:
        """Take everything out (cause ``explicit``), in the order in which it would have left."""
        raise NotImplementedError

    def purge(self) -> int:
        """Take out everything that has expired; returns how many. O(slots)."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Entries, including such as have expired and were not met since."""
        raise NotImplementedError

    def __contains__(self, key: object, /) -> bool:
        raise NotImplementedError

    def __getitem__(self, key: K, /) -> V:
        raise NotImplementedError

    def __setitem__(self, key: K, value: V, /) -> None:
        raise NotImplementedError

    def __delitem__(self, key: K, /) -> None:
        raise NotImplementedError

    def _resize(self, max_entries: int, max_weight: int, /) -> None:
        raise NotImplementedError

    def _snapshot(self) -> list[Row[K, V]]:
        raise NotImplementedError

    def _counters(self) -> Counts:
        raise NotImplementedError

    def _loaded(self, seconds: float, failed: bool, /) -> None:
        raise NotImplementedError

    def _segments(self) -> tuple[int, int, int, int, int]:
        raise NotImplementedError

    # --- shared ---------------------------------------------------------------------------------------------------

    def get_or_load(self, key: K, loader: Callable[[K], V], ttl: float | None = None) -> V:
        """The value, or what ``loader(key)`` returns, stored. Its error passes on and is not stored.

        Two threads that miss at once both load; the two-level cache makes that one load.
        """
        value = self.get(key, _MISSING)
        if value is not _MISSING:
            return value
        started = time.perf_counter()
        failed = True
        try:
            loaded = loader(key)
            failed = False
        finally:
            self._loaded(time.perf_counter() - started, failed)
        self.put(key, loaded, ttl)
        return loaded

    def items(self) -> list[tuple[K, V]]:
        """A snapshot in the order in which entries would leave, without what has expired."""
        return [(row[0], row[1]) for row in self._snapshot()]

    def keys(self) -> list[K]:
        """Keys of :meth:`items`."""
        return [row[0] for row in self._snapshot()]

    def __iter__(self) -> Iterator[K]:
        """Over a snapshot: the cache may change meanwhile."""
        return iter(self.keys())

    def resize(self, max_entries: int, max_weight: int | None = None) -> None:
        """Set both limits, evicting what is over them. O(entries); the policy keeps the order and starts to learn anew.

        Raises:
            InvalidInputError: a limit out of range; nothing has changed.
        """
        check_limits(max_entries, max_weight)
        self._resize(max_entries, -1 if max_weight is None else max_weight)

    def stats(self) -> LocalStats:
        """A snapshot of the counters."""
        max_entries, max_weight = self._limits()
        return from_counts(self._counters(), len(self), max_entries, None if max_weight < 0 else max_weight)

    def _limits(self) -> tuple[int, int]:
        raise NotImplementedError

    @property
    def window_share(self) -> float:
        """Of the adaptive policy: the window's share of the entries that fit, chosen by the shadows; 1 is plain LRU."""
        *_, target, room = self._segments()
        return min(1.0, target / max(room, 1))


def core_arguments(
    config: LocalConfig,
    weigher: Weigher[K, V] | None,
    listener: Listener[K, V] | None,
) -> tuple[int, int, int, Weigher[K, V] | None, Listener[K, V] | None]:
    """``max_weight`` (-1: none), ``ttl_ms``, policy number, weigher and listener as an implementation takes them."""
    if weigher is None and config.max_weight is not None:
        weigher = payload_bytes
    return (
        -1 if config.max_weight is None else config.max_weight,
        config.ttl_ms,
        list(type(config.policy)).index(config.policy),
        weigher,
        None if listener is None else _logged(listener),
    )


def _logged(listener: Listener[K, V]) -> Listener[K, V]:
    def call(key: K, value: V, cause: Cause) -> None:
        try:
            listener(key, value, cause)
        except Exception:
            _log.exception("a removal listener failed")

    return call
