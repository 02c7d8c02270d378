"""Where dialogues are kept: the contract of the two stores, and the one in memory."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from autoglm.cache.tiered.level import FirstLevel

GENERATION_BYTES = 8
_LEVEL_TTL = 86_400.0  # the ends that count are kept with the session, where a renewal moves them all


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer goes: tenant's name, session, visible key."""

    tenant: str
    session: str
    key: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a store said.

    Attributes:
        generation: of the session now; a purge changes it. Empty: the store is away, nothing may be kept.
        data: the entry, if there is one.
    """

    generation: bytes
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Purge:
    """What a purge did.

    Attributes:
        entries: removed, as far as known.
        everywhere: no process can serve an old entry any more. ``False``: this one cannot, and the shared store will
            be told as soon as it answers; a process that still reaches it may serve old entries until then.
    """

    entries: int
    everywhere: bool


class DialogueStore(Protocol):
    """Thread-safe; nothing raises, nothing waits longer than one operation of the shared level."""

    def read(self, place: Place) -> Reading: ...

    def write(self, place: Place, generation: bytes, data: bytes, ttl: float) -> bool:
        """Store unless the session's generation has changed."""

    def renew(self, tenant: str, session: str, ttl: float) -> None:
        """All entries of the session live for ``ttl`` seconds from now."""

    def purge(self, tenant: str, session: str) -> Purge:
        """O(entries of the session). Writes of the old generation are refused from here on."""

    def purge_all(self) -> bool:
        """Every session of every tenant; whether it is done."""

    def figures(self) -> dict[str, float]: ...


@dataclass(slots=True)
class _Session:
    """``keys``: of its entries, with their ends, the least recently used first."""

    generation: bytes
    keys: dict[str, float] = field(default_factory=dict)


class LocalStore:
    """In this process alone. Sessions and entries are both bounded; the least recently used go first.

    Args:
        level: holds the entries, with its own limits of count and bytes.
        max_sessions, max_entries: sessions at once; entries of one session.
    """

    def __init__(
        self,
        level: FirstLevel[bytes],
        *,
        max_sessions: int,
        max_entries: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._level = level
        self._max_sessions = max_sessions
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: OrderedDict[tuple[str, str], _Session] = OrderedDict()
        self._evicted = self._evicted_sessions = 0

    def read(self, place: Place) -> Reading:
        with self._lock:
            session = self._session(place.tenant, place.session)
            if session.keys.get(place.key, 0.0) <= self._clock():
                return Reading(session.generation)
            session.keys[place.key] = session.keys.pop(place.key)  # used now
            return Reading(session.generation, self._level.get(_name(place.tenant, place.key)))

    def write(self, place: Place, generation: bytes, data: bytes, ttl: float) -> bool:
        with self._lock:
            session = self._sessions.get((place.tenant, place.session))
            if session is None or session.generation != generation:
                return False
            session.keys.pop(place.key, None)  # to the end: the first is the oldest
            session.keys[place.key] = self._clock() + ttl
            self._level.put(_name(place.tenant, place.key), data, ttl=_LEVEL_TTL, weight=len(data))
            while len(session.keys) > self._max_entries:
                self._evicted += 1
                self._drop(place.tenant, session, next(iter(session.keys)))
            return True

    def renew(self, tenant: str, session: str, ttl: float) -> None:
        with self._lock:
            found = self._sessions.get((tenant, session))
            if found is None:
                return
            now = self._clock()
            for key in [k for k, end in found.keys.items() if end <= now]:
                self._drop(tenant, found, key)
            found.keys.update(dict.fromkeys(found.keys, now + ttl))

    def purge(self, tenant: str, session: str) -> Purge:
        with self._lock:
            return Purge(self._end(tenant, session), everywhere=True)

    def purge_all(self) -> bool:
        with self._lock:
            for tenant, session in list(self._sessions):
                self._end(tenant, session)
            return True

    def figures(self) -> dict[str, float]:
        with self._lock:
            return {
                "sessions": len(self._sessions),
                "evicted_cap": self._evicted,
                "evicted_sessions": self._evicted_sessions,
                **self._level.figures(),
            }

    def _session(self, tenant: str, session: str) -> _Session:
        name = tenant, session
        found = self._sessions.get(name)
        if found is None:
            found = self._sessions[name] = _Session(os.urandom(GENERATION_BYTES))
            while len(self._sessions) > self._max_sessions:
                self._evicted_sessions += 1
                self._end(*next(iter(self._sessions)))
        self._sessions.move_to_end(name)
        return found

    def _end(self, tenant: str, session: str) -> int:
        found = self._sessions.pop((tenant, session), None)
        if found is None:
            return 0
        now = self._clock()
        count = sum(end > now for end in found.keys.values())
        for key in found.keys:
            self._level.remove(_name(tenant, key))
        return count

    def _drop(self, tenant: str, session: _Session, key: str) -> None:
        del session.keys[key]
        self._level.remove(_name(tenant, key))


def _name(tenant: str, key: str) -> str:
    return f"{tenant}:{key}"
