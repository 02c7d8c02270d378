"""Dialogues in the shared level: one script per operation, so that each is all or nothing.

Every read asks the server for the session's generation. That is what makes a purge hold everywhere when it returns:
whoever reads after it sees the new generation, whatever its process had heard by then. A copy in the process could
only be served on the word of the tracking link, which may be a lease old; so there is none.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from autoglm.cache.dialogue.store import GENERATION_BYTES, Place, Purge, Reading

if TYPE_CHECKING:
    from autoglm.cache.tiered.connections import Command
    from autoglm.cache.tiered.shared import SharedLevel

_READ = """
local g = redis.call('GET', KEYS[1])
if not g then g = ARGV[1] redis.call('SET', KEYS[1], g, 'PX', ARGV[2]) end
local found = redis.call('GET', KEYS[2])
if found then
  local t = redis.call('TIME')
  redis.call('ZADD', KEYS[3], 'XX', t[1] * 1000000 + t[2], KEYS[2])
end
return {g, found}
"""
_WRITE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
local t = redis.call('TIME')
redis.call('ZADD', KEYS[2], t[1] * 1000000 + t[2], KEYS[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[5])
local evicted = 0
if over > 0 then
  local old = redis.call('ZPOPMIN', KEYS[2], over)
  for i = 1, #old, 2 do evicted = evicted + redis.call('UNLINK', old[i]) end
end
return 1 + evicted
"""
_RENEW = """
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[1])
for _, key in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do redis.call('PEXPIRE', key, ARGV[2]) end
return 1
"""
_PURGE = """
local keys = redis.call('ZRANGE', KEYS[2], 0, -1)
local count = 0
for _, key in ipairs(keys) do count = count + redis.call('UNLINK', key) end
redis.call('UNLINK', KEYS[1], KEYS[2])
return count
"""
_SESSION_LIVES = 2  # a session's generation outlives its entries, whose jitter may lengthen them


class RedisStore:
    """One name's dialogues in a shared level. While the server is away: no entries, and purges are remembered."""

    def __init__(
        self, shared: SharedLevel, name: str, *, ttl: float, max_entries: int, max_pending: int = 10_000
    ) -> None:
        self._shared = shared
        self._prefix = f"{shared.config.namespace}:d:{name}:"
        self._ttl = ttl
        self._max_entries = max_entries
        self._max_pending = max_pending
        self._lock = threading.Lock()
        self._pending: set[tuple[str, str]] = set()
        self._all_pending = False
        self._evicted = 0
        shared.at_return(self._deliver)

    def read(self, place: Place) -> Reading:
        fresh = os.urandom(GENERATION_BYTES)
        generation, index = self._session(place.tenant, place.session)
        keys = generation, self._name(place.tenant, place.key), index
        reply = self._call(("EVAL", _READ, 3, *keys, fresh, _ms(self._ttl * _SESSION_LIVES)))
        if not isinstance(reply, list) or not isinstance(reply[0], bytes):
            return Reading(b"")
        return Reading(reply[0], reply[1] if isinstance(reply[1], bytes) else None)

    def write(self, place: Place, generation: bytes, data: bytes, ttl: float) -> bool:
        if len(data) > self._shared.config.max_value_bytes:
            return False
        names = (*self._session(place.tenant, place.session), self._name(place.tenant, place.key))
        life = _ms(ttl * _SESSION_LIVES)
        command: Command = ("EVAL", _WRITE, 3, *names, generation, data, _ms(ttl), life, self._max_entries)
        reply = self._call(command)
        if not isinstance(reply, int) or not reply:
            return False
        with self._lock:
            self._evicted += reply - 1
        return True

    def renew(self, tenant: str, session: str, ttl: float) -> None:
        self._call(("EVAL", _RENEW, 2, *self._session(tenant, session), _ms(ttl * _SESSION_LIVES), _ms(ttl)))

    def purge(self, tenant: str, session: str) -> Purge:
        reply = self._call(self._purge_command(tenant, session))
        if isinstance(reply, int):
            return Purge(reply, everywhere=True)
        with self._lock:
            self._pending.add((tenant, session))
            if len(self._pending) > self._max_pending:
                self._pending.clear()
                self._all_pending = True
        # The server may have come back, and taken what was pending, just before.
        done = self._shared.breaker.closed and self._shared.deliver()
        return Purge(0, everywhere=done)

    def purge_all(self) -> bool:
        with self._lock:
            self._all_pending = True
        return self._shared.breaker.closed and self._shared.deliver()

    def figures(self) -> dict[str, float]:
        return {"pending_purges": len(self._pending) + self._all_pending, "evicted_cap": self._evicted}

    def _deliver(self) -> None:
        """Purges that were missed, before anything is read again. Raises what the connection raises."""
        with self._lock:
            purges, everything = list(self._pending), self._all_pending
        if everything:
            self._shared.sweep(self._prefix)
        for tenant, session in purges:
            self._shared.send(self._purge_command(tenant, session))
        with self._lock:
            self._pending.difference_update(purges)
            if everything:
                self._all_pending = False

    def _purge_command(self, tenant: str, session: str) -> Command:
        return ("EVAL", _PURGE, 2, *self._session(tenant, session))

    def _session(self, tenant: str, session: str) -> tuple[str, str]:
        return self._name(tenant, f"gen:{session}"), self._name(tenant, f"idx:{session}")

    def _name(self, tenant: str, rest: str) -> str:
        return f"{self._prefix}{tenant}:{rest}"

    def _call(self, command: Command) -> Any:
        replies = self._shared.call(command)
        return None if replies is None else replies[0]


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
