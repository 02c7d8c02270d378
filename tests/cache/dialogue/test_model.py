"""Dialogues against a plain model: of each session the answers used last, by normalised query, until a purge."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoglm.cache.dialogue import DialogueCache, DialogueConfig, Purge, Question
from autoglm.cache.dialogue.cache import Ticket
from autoglm.cache.tiered import BytesCodec
from benchmarks.redis_server import RedisServer
from tests.cache.conftest import Open
from tests.cache.dialogue.test_dialogue import Clock, local
from tests.cache.waiting import wait_up

ROOM = 3
MEANT = {"a": "a", " a ": "a", "b": "b", "b!": "b", "c": "c", "ｃ": "c", "d": "d", "e": "e"}
"""What is asked, and what it is equal to."""
WHAT = st.sampled_from(["ask", "ask", "ask", "begin", "end", "purge"])
ACTIONS = st.lists(
    st.tuples(WHAT, st.sampled_from("tu"), st.sampled_from("sr"), st.sampled_from(sorted(MEANT))), max_size=40
)
Session = tuple[str, str]


def follow(cache: DialogueCache[bytes], actions: list[tuple[str, str, str, str]]) -> None:
    """Do ``actions`` on the cache and on the model; ``begin`` and ``end``: an answer that takes its time."""
    model: dict[Session, dict[str, bytes]] = {}
    purges: dict[Session, int] = {}
    begun: list[tuple[Ticket, Session, int, str]] = []
    for number, (action, tenant, name, query) in enumerate(actions):
        session, value = (tenant, name), b"%d" % number
        held = model.setdefault(session, {})
        if action == "purge":
            assert cache.purge(tenant, name) == Purge(len(held), everywhere=True)
            held.clear()
            purges[session] = purges.get(session, 0) + 1
            continue
        if action == "end":
            if begun:
                ticket, theirs, before, meant = begun.pop(0)
                kept = purges.get(theirs, 0) == before
                assert cache.keep(ticket, value) is kept
                if kept:
                    store(model[theirs], meant, value)
            continue
        found = cache.lookup(Question(tenant=tenant, session=name, query=query))
        meant = MEANT[query]
        assert found.value == held.get(meant)
        if found.value is not None:
            held[meant] = held.pop(meant)
        elif action == "begin":
            begun.append((found.ticket, session, purges.get(session, 0), meant))
        else:
            assert cache.keep(found.ticket, value)
            store(held, meant, value)


def store(held: dict[str, bytes], meant: str, value: bytes) -> None:
    """The newest comes last, the first leaves."""
    held.pop(meant, None)
    held[meant] = value
    if len(held) > ROOM:
        del held[next(iter(held))]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ACTIONS)
def test_in_memory(actions: list[tuple[str, str, str, str]]) -> None:
    follow(local(Clock(), max_entries=ROOM), actions)


def test_on_redis(redis: RedisServer, open_level: Open) -> None:
    shared = open_level(redis.url)
    wait_up(shared)
    config = DialogueConfig(jitter=0.0, max_entries=ROOM)
    cache: DialogueCache[bytes] = DialogueCache(config, BytesCodec(), shared=shared)

    @settings(
        max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(ACTIONS)
    def check(actions: list[tuple[str, str, str, str]]) -> None:
        assert cache.clear()
        follow(cache, actions)

    check()
