"""Who takes part in :mod:`benchmarks.local_cache`: ours, and the published in-process caches, each in its own calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autoglm.cache.local import Implementation, LocalCache, LocalConfig, Policy

WEIGHT = 64


@dataclass(frozen=True, slots=True)
class Subject:
    """One cache.

    Attributes:
        make: an empty one for so many entries.
        put: name of its method for storing.
        weighed: its put takes a time to live and a weight as well.
        package: whose version is named in the result; empty for Python's own.
        baseline: the subject its ratios are taken against.
        memory: whether its memory is worth measuring (what holds the same as another subject is not).
    """

    name: str
    make: Callable[[int], Any]
    package: str
    put: str = "put"
    weighed: bool = False
    baseline: str = "cachebox LRU"
    memory: bool = True

    def puts(self, cache: Any, keys: Sequence[Any]) -> None:
        """Store each key under itself."""
        put = getattr(cache, self.put)
        if self.weighed:
            for key in keys:
                put(key, key, None, WEIGHT)
        else:
            for key in keys:
                put(key, key)

    def mixed(self, cache: Any, keys: Sequence[Any]) -> None:
        """Look each key up, and store it where it is missing."""
        get, put = cache.get, getattr(cache, self.put)
        if self.weighed:
            for key in keys:
                if get(key) is None:
                    put(key, key, None, WEIGHT)
        else:
            for key in keys:
                if get(key) is None:
                    put(key, key)


def _ours(
    policy: Policy, implementation: Implementation = Implementation.SLAB
) -> Callable[[int], LocalCache[Any, Any]]:
    """Expiry, weights and statistics all on."""
    return lambda entries: LocalCache(
        LocalConfig(entries, entries * WEIGHT * 2, 600.0, policy, implementation=implementation)
    )


def _ours_weighing(entries: int) -> LocalCache[Any, Any]:
    config = LocalConfig(entries, entries * WEIGHT * 2, 600.0, Policy.LRU, implementation=Implementation.SLAB)
    return LocalCache(config, weigher=lambda _key, _value: WEIGHT)


def _cachebox(kind: str) -> Callable[[int], Any]:
    def make(entries: int) -> Any:
        import cachebox

        return getattr(cachebox, kind)(entries)

    return make


def _cachebox_weighing(entries: int) -> Any:
    import cachebox

    return cachebox.LRUCache(entries * WEIGHT, getsizeof=lambda _key, _value: WEIGHT)


def _cachetools_lru(entries: int) -> Any:
    import cachetools

    return cachetools.LRUCache(entries)


def _cachetools_ttl(entries: int) -> Any:
    import cachetools

    return cachetools.TTLCache(entries, ttl=600)


class _Theine:
    """theine's ``get`` has another default than ``None``."""

    def __init__(self, entries: int) -> None:
        import theine

        self.cache: Any = theine.Cache(entries, nolock=True)
        self.get = self.cache.get
        self.set = self.cache.set


def _moka(policy: Literal["tiny_lfu", "lru"]) -> Callable[[int], Any]:
    def make(entries: int) -> Any:
        import moka_py

        return moka_py.Moka(entries, ttl=600, policy=policy)

    return make


SUBJECTS = (
    Subject("autoglm lru", _ours(Policy.LRU), "", weighed=True),
    Subject("autoglm lfu", _ours(Policy.LFU), "", weighed=True, baseline="cachebox LFU"),
    Subject("autoglm adaptive", _ours(Policy.ADAPTIVE), "", weighed=True),
    Subject("autoglm lru, weigher", _ours_weighing, "", baseline="cachebox LRU, weigher", memory=False),
    Subject("autoglm twin, adaptive", _ours(Policy.ADAPTIVE, Implementation.PYTHON), "", weighed=True),
    Subject("cachebox LRU", _cachebox("LRUCache"), "cachebox", put="insert"),
    Subject("cachebox LFU", _cachebox("LFUCache"), "cachebox", put="insert", baseline="cachebox LFU"),
    Subject("cachebox VTTL", _cachebox("VTTLCache"), "cachebox", put="insert"),
    Subject(
        "cachebox LRU, weigher",
        _cachebox_weighing,
        "cachebox",
        put="insert",
        baseline="cachebox LRU, weigher",
        memory=False,
    ),
    Subject("cachetools LRU", _cachetools_lru, "cachetools", put="__setitem__"),
    Subject("cachetools TTL", _cachetools_ttl, "cachetools", put="__setitem__"),
    Subject("theine", _Theine, "theine", put="set"),
    Subject("moka tiny_lfu", _moka("tiny_lfu"), "moka_py", put="set"),
    Subject("moka lru", _moka("lru"), "moka_py", put="set"),
)
BY_NAME = {subject.name: subject for subject in SUBJECTS}
