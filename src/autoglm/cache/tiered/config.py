"""Sizes, times and switches of the two levels. All times are seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from autoglm.errors import InvalidInputError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _check(name: str, value: float, low: float, *, above: bool = False) -> None:
    if not (value > low if above else value >= low):
        word = "above" if above else "at least"
        raise InvalidInputError(f"{name} must be {word} {low}, got {value}", field=name, limit=low, value=value)


def check_name(field: str, value: str) -> None:
    """Raise :class:`InvalidInputError` unless ``value`` is safe as a part of a key."""
    if not _NAME.fullmatch(value):
        raise InvalidInputError(
            f"{field} takes 1 to 64 letters, digits, '.', '_' and '-', got {value[:64]!r}",
            field=field,
            value=value[:64],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedConfig:
    """The second level: one Redis, shared by all processes of one ``namespace``.

    Attributes:
        url: ``redis://[user:password@]host:port/db``, ``rediss://…`` or ``unix://…``. Never logged whole.
        password: where the URL has none.
        operation_timeout: for one operation in all, connecting included at most 1.2 times as much.
        connections: open at once at most; one more operation waits for one, within its time.
        heartbeat: between two checks of the tracking link.
        lease: how long a confirmed link vouches for the first level. It is the bound on staleness: see
            ``docs/caches/tiered.md``.
        first_probe, max_probe: pause before the first probe of a server that failed; doubled up to the second.
        max_pending: removals remembered while the server is away; one more and the whole namespace is removed.
        max_value_bytes: a larger value is not stored.
        workers: threads that run operations for event loops.
    """

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    namespace: str = "autoglm"
    operation_timeout: float = 0.04
    connections: int = 16
    heartbeat: float = 0.25
    lease: float = 1.0
    first_probe: float = 0.02
    max_probe: float = 1.0
    max_pending: int = 10_000
    max_value_bytes: int = 16 * 2**20
    workers: int = 4

    def __post_init__(self) -> None:
        check_name("namespace", self.namespace)
        for name in ("operation_timeout", "heartbeat", "first_probe"):
            _check(name, getattr(self, name), 0, above=True)
        _check("lease", self.lease, 2 * self.heartbeat)
        _check("max_probe", self.max_probe, self.first_probe)
        for name in ("connections", "max_pending", "max_value_bytes", "workers"):
            _check(name, getattr(self, name), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredConfig:
    """One cache over both levels.

    Attributes:
        name: its place under the namespace, and its name in statistics.
        ttl: after a write, before jitter; every entry lives ``ttl * (1 ± jitter)``.
        negative_ttl: for "there is none"; 0 does not remember that.
        detached_ttl: age limit of a first-level entry that no tracking link vouches for.
        refresh_at: share of an entry's life after which a read has it loaded anew in the background; 1: never.
        max_refreshes: background loads at once; one more is left out, and the next read asks again.
        load_lease: how long one process may load before others stop waiting for it.
        max_entries, max_bytes: of the first level; 0 entries switch it off.
        immutable: the key is a digest of everything the value depends on, so a saved value never becomes wrong.
    """

    name: str
    ttl: float = 600.0
    jitter: float = 0.1
    negative_ttl: float = 10.0
    detached_ttl: float = 1.0
    refresh_at: float = 0.8
    max_refreshes: int = 4
    load_lease: float = 10.0
    max_entries: int = 1000
    max_bytes: int = 64 * 2**20
    immutable: bool = False

    def __post_init__(self) -> None:
        check_name("name", self.name)
        for name in ("ttl", "load_lease"):
            _check(name, getattr(self, name), 0, above=True)
        for name in ("negative_ttl", "detached_ttl", "max_refreshes", "max_entries", "max_bytes", "jitter"):
            _check(name, getattr(self, name), 0)
        for name, high in (("jitter", 0.9), ("refresh_at", 1.0)):
            if getattr(self, name) > high:
                value = getattr(self, name)
                raise InvalidInputError(
                    f"{name} must be at most {high}, got {value}", field=name, limit=high, value=value
                )
        _check("refresh_at", self.refresh_at, 0, above=True)
