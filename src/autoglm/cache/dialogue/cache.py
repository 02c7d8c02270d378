"""Answers of a dialogue, reused by the same session only, and gone at once when it is purged."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

from autoglm.cache.dialogue.normalise import QueryRules
from autoglm.cache.dialogue.question import Question, check_session, tenant_name, visible_key
from autoglm.cache.dialogue.renewals import Renewals
from autoglm.cache.dialogue.store import DialogueStore, LocalStore, Place, Purge
from autoglm.cache.local import Policy
from autoglm.cache.tiered.codec import Codec, Kind, StructCodec, frame, pack, unpack
from autoglm.cache.tiered.config import check_name
from autoglm.cache.tiered.counters import Counters
from autoglm.cache.tiered.flights import AbandonedError, Flight, Flights, Outcome
from autoglm.cache.tiered.local_level import LocalLevel
from autoglm.cache.tiered.steps import BAD_BODY
from autoglm.errors import InvalidInputError

if TYPE_CHECKING:
    from autoglm.cache.tiered.shared import SharedLevel

log = logging.getLogger(__name__)
V = TypeVar("V")
SessionHook = Callable[[str, float], None]
COUNTERS = (
    "hits",
    "hit_age_seconds",
    "misses",
    "stores",
    "refused_stores",
    "foreign",
    "unreadable",
    "unverified",
    "loads",
    "load_failures",
    "load_seconds",
    "joined",
    "renewals",
    "purges",
    "purged_entries",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueConfig:
    """Sizes and times of a dialogue cache; times in seconds.

    Attributes:
        ttl: of an entry since it was stored, or since the session's last question; times ``1 ± jitter``.
        max_entries: of one session; the least recently used goes first.
        max_sessions, max_bytes: of this process, where there is no shared level.
        rules: what makes two queries equal.
    """

    name: str = "dialogue"
    ttl: float = 180.0
    jitter: float = 0.1
    max_entries: int = 64
    max_sessions: int = 1000
    max_bytes: int = 64 * 2**20
    rules: QueryRules = field(default_factory=QueryRules)

    def __post_init__(self) -> None:
        check_name("name", self.name)
        for name, low, high in (("ttl", 1e-3, 86_400.0), ("jitter", 0.0, 0.5)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInputError(
                    f"{name} must be between {low} and {high}, got {value}", field=name, limit=high, value=value
                )
        for name in ("max_entries", "max_sessions", "max_bytes"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be at least 1", field=name, limit=1, value=getattr(self, name))


class _Entry(Struct, frozen=True, array_like=True):
    """What is stored: whose it is and what it answers, in full, beside the answer; when, in seconds since the epoch."""

    tenant: str
    digest: bytes
    generation: bytes
    body: bytes
    stored: float = 0.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to store the answer to a question, void once the session has been purged."""

    place: Place
    tenant: str
    digest: bytes
    generation: bytes


@dataclass(frozen=True, slots=True)
class Lookup(Generic[V]):
    """``value``: ``None`` for a miss; then ``ticket`` stores the answer."""

    value: V | None
    ticket: Ticket


class DialogueCache(Generic[V]):
    """Thread-safe. With a shared level, processes share sessions; without, each has its own.

    Args:
        shared: where dialogues are kept; ``None``: in this process.
        on_session_alive: told (session, seconds) with every question, so that other state of the session may be kept
            as long. Called on the asking thread; must not block.
    """

    def __init__(
        self,
        config: DialogueConfig,
        codec: Codec[V],
        *,
        shared: SharedLevel | None = None,
        on_session_alive: SessionHook | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self.shared = shared
        self.counters = Counters(COUNTERS)
        self.on_session_alive = on_session_alive
        self._codec = codec
        self._entries: StructCodec[_Entry] = StructCodec(_Entry, "dialogue")
        self._rng = rng or random.Random()
        self._flights: Flights[V] = Flights()
        self.store: DialogueStore = _store_of(config, shared, clock)
        executor = None if shared is None else shared.executor
        self._renewals = Renewals(self.store, executor, config.ttl / 10, clock)

    def lookup(self, question: Question) -> Lookup[V]:
        """The answer, if this tenant's session has asked the same before. Keeps the session alive."""
        self._touch(question)
        return self._look(question, self._place(question))

    def keep(self, ticket: Ticket, value: V) -> bool:
        """Store an answer. ``False``: the session was purged since, or the store is away or full.

        Raises:
            ValueError: the codec cannot write ``value``.
        """
        if not ticket.generation:
            return False
        entry = _Entry(ticket.tenant, ticket.digest, ticket.generation, self._codec.encode(value), time.time())
        ttl = self._life()
        data = pack(frame(Kind.VALUE, ttl, self._codec, self._entries.encode(entry)))
        kept = self.store.write(ticket.place, ticket.generation, data, ttl)
        self.counters.add("stores" if kept else "refused_stores")
        return kept

    def get_or_load(self, question: Question, loader: Callable[[Question], V]) -> V:
        """The answer, computed if need be: once at a time for equal questions of one session.

        An answer computed before a purge goes to those who had asked before it, to nobody later, and is not kept.
        """
        self._touch(question)
        while True:
            found = self._look(question, self._place(question))
            if found.value is not None:
                return found.value
            ticket = found.ticket
            key = self.flight_key(ticket)
            flight, leads = self._flights.join(key)
            if leads:
                return self._lead(flight, key, question, ticket, loader)
            self.counters.add("joined")
            try:
                joined = flight.future.result().value
            except AbandonedError:
                continue
            if joined is not None:
                return joined

    def flight_key(self, ticket: Ticket) -> str:
        """Equal for askers that may wait for one computation: same tenant, question and generation."""
        # While the store is away there is no generation: purges are told apart by their count here.
        life = ticket.generation.hex() or f"away-{self.counters['purges']:.0f}"
        return f"{ticket.place.tenant}:{ticket.digest.hex()}:{life}:{ticket.place.session}"

    def purge(self, tenant: str, session: str) -> Purge:
        """Remove a session's answers, and have those under way not stored. O(entries of the session).

        When it returns with ``everywhere``, no process serves any of them any more.

        Raises:
            InvalidInputError: ``session`` is not a name of one.
        """
        check_session(session)
        self.counters.add("purges")
        done = self.store.purge(tenant_name(tenant), session)
        self.counters.add("purged_entries", done.entries)
        if not done.everywhere:
            log.error("a session's purge could not be told to the cache store; it will be as soon as it answers")
        return done

    def sensitive_action_hook(self, tenant: str) -> Callable[[str], Purge]:
        """For an agent's loop: call it with the session after a login, a payment, a change of rights."""
        return lambda session: self.purge(tenant, session)

    def clear(self) -> bool:
        """Remove all sessions of all tenants; whether that is done."""
        return self.store.purge_all()

    def figures(self) -> dict[str, float]:
        """Counters since start and present sizes."""
        return self.counters.snapshot() | self.store.figures() | {"renewals": self._renewals.done}

    def _lead(
        self, flight: Flight[V], key: str, question: Question, ticket: Ticket, loader: Callable[[Question], V]
    ) -> V:
        """End the flight: with what another load stored since the caller looked, or by loading."""
        try:
            value, _ = self._read(question.tenant, ticket.place, ticket.digest)
            if value is None:
                started = time.perf_counter()
                value = loader(question)
                self.counters.add("loads")
                self.counters.add("load_seconds", time.perf_counter() - started)
                self.keep(ticket, value)
        except BaseException as error:
            self.counters.add("load_failures")
            self._flights.fail(key, flight, error if isinstance(error, Exception) else AbandonedError())
            raise
        self._flights.land(key, flight, Outcome(value))
        return value

    def _place(self, question: Question) -> tuple[Place, bytes]:
        digest = question.digest(self.config.rules)
        place = Place(tenant_name(question.tenant), question.session, visible_key(question.session, digest))
        return place, digest

    def _look(self, question: Question, where: tuple[Place, bytes]) -> Lookup[V]:
        value, generation = self._read(question.tenant, *where)
        self.counters.add("misses" if value is None else "hits")
        return Lookup(value, Ticket(where[0], question.tenant, where[1], generation))

    def _read(self, tenant: str, place: Place, digest: bytes) -> tuple[V | None, bytes]:
        """The value, if there is one, and the session's present generation."""
        reading = self.store.read(place)
        value = None
        if not reading.generation:
            self.counters.add("unverified")
        elif reading.data is not None:
            value = self._open(reading.data, tenant, digest, reading.generation)
        return value, reading.generation

    def _open(self, data: bytes, tenant: str, digest: bytes, generation: bytes) -> V | None:
        """The value, if the entry is this tenant's answer to this very question, of this generation."""
        held = unpack(data)
        if held is None or (held.tag, held.version) != (self._codec.tag, self._codec.version):
            self.counters.add("unreadable")
            return None
        try:
            entry = self._entries.decode(held.body)
            if (entry.tenant, entry.digest, entry.generation) != (tenant, digest, generation):
                self.counters.add("foreign")
                return None
            value = self._codec.decode(entry.body)
        except BAD_BODY:
            self.counters.add("unreadable")
            return None
        self.counters.add("hit_age_seconds", max(0.0, time.time() - entry.stored))
        return value

    def _touch(self, question: Question) -> None:
        life = self._life()
        self._renewals.ask(tenant_name(question.tenant), question.session, life)
        if self.on_session_alive is not None:
            self.on_session_alive(question.session, life)

    def _life(self) -> float:
        return self.config.ttl * self._rng.uniform(1 - self.config.jitter, 1 + self.config.jitter)


def _store_of(config: DialogueConfig, shared: SharedLevel | None, clock: Callable[[], float]) -> DialogueStore:
    if shared is not None:
        from autoglm.cache.dialogue.redis_store import RedisStore

        return RedisStore(shared, config.name, ttl=config.ttl, max_entries=config.max_entries)
    level: LocalLevel[bytes] = LocalLevel(config.max_sessions * config.max_entries, config.max_bytes, clock, Policy.LRU)
    return LocalStore(level, max_sessions=config.max_sessions, max_entries=config.max_entries, clock=clock)
