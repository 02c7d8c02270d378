"""The host tier through the engine: the same tokens as without it, in both layouts, under pressure and preemption."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from autoglm.engine import Engine
from autoglm.engine.host import BreakEven
from autoglm.errors import InvalidInputError
from autoglm.messages import ChatMessage
from autoglm.synthetic import make_phone_checkpoint
from tests.engine.harness import GREEDY, Driver, engine_of, screen, user

HOST: dict[str, Any] = {"host_kv_bytes": 16 * 2**20, "host_kv_min_blocks": 1}
SCREENS = [screen(i, 56, 84) for i in range(4)]
SHORT = msgspec.structs.replace(GREEDY, max_tokens=6, ignore_eos=True)


@pytest.fixture(scope="module", params=["glm4v", "phone"])
def layout(request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint if request.param == "glm4v" else make_phone_checkpoint(tmp_path_factory.mktemp("phone"))


def pool(checkpoint: Path, blocks: int, **options: Any) -> int:
    """Bytes of a pool of that many blocks."""
    engine = engine_of(checkpoint, **options)
    size = engine.model.kv_spec.bytes_per_token * engine.config.block_size * blocks
    engine.close()
    return size


def dialogue(draw: random.Random) -> list[ChatMessage]:
    system = ChatMessage("system", "You operate a phone. " * draw.choice([2, 5]))
    turns = [user(draw.choice(SCREENS), draw.choice(["open the shop", "scroll down", "go back and wait"]))]
    for _ in range(draw.randrange(3)):
        turns += [ChatMessage("assistant", "do(action='Tap')"), user(draw.choice(["next", "again"]))]
    return [system, *turns]


def host_of(engine: Engine) -> Any:
    assert engine.kv.host is not None
    return engine.kv.host


def test_a_session_comes_back_by_copy(layout: Path) -> None:
    driver = Driver(engine_of(layout, kv_cache_bytes=pool(layout, 24), **HOST))
    first = [ChatMessage("system", "You operate a phone. " * 12), user(SCREENS[0], "open the shop")]
    tokens = driver.ask(first, SHORT).tokens
    for index in range(4):
        driver.ask([user(f"{index} " * 100)], SHORT)
    host = host_of(driver.engine)
    assert host.counters.saves > 0
    again = driver.ask(first, SHORT)
    assert again.tokens == tokens
    assert again.cached > 0
    assert host.counters.hits > 0
    assert host.counters.loads * 16 == host.counters.hits
    stats = {c.name: c for c in driver.engine.stats().caches}["kv_host"]
    assert stats.hits == host.counters.hits
    assert stats.loads == host.counters.loads
    assert 0 < stats.bytes <= stats.capacity_bytes


@pytest.mark.parametrize("host_blocks", [5, 200])
def test_random_dialogues_at_once_give_the_same_tokens(layout: Path, host_blocks: int) -> None:
    """A pool so small that sequences are preempted; a host tier that overflows, and one that does not."""
    draw = random.Random(host_blocks)
    blocks = pool(layout, 1)
    small = {"kv_cache_bytes": 15 * blocks, "max_batch_tokens": 64}
    sampling = msgspec.structs.replace(SHORT, max_tokens=12)
    on = Driver(engine_of(layout, **small, **HOST | {"host_kv_bytes": host_blocks * blocks}))
    off = Driver(engine_of(layout, **small))
    for _ in range(3):
        batch = [(dialogue(draw), draw.choice(["", "tenant"])) for _ in range(5)]
        for driver in (on, off):
            for messages, salt in batch[:3]:
                driver.submit(messages, sampling, cache_salt=salt, priority=1)
            while not any(s.generated for s in driver.engine.scheduler.running):
                driver.step()
            for messages, salt in batch[3:]:
                driver.submit(messages, sampling, cache_salt=salt)
            driver.drain()
    assert on.results.keys() == off.results.keys()
    for key, result in on.results.items():
        assert result.tokens == off.results[key].tokens
        assert len(result.tokens) == 12
    assert host_of(on.engine).counters.loads > 0
    assert on.engine.scheduler.preemptions > 0


def test_another_tenant_gets_nothing(layout: Path) -> None:
    driver = Driver(engine_of(layout, kv_cache_bytes=pool(layout, 24), **HOST))
    messages = [user(SCREENS[0], "open the shop " * 8)]
    driver.ask(messages, SHORT, cache_salt="one")
    for index in range(4):
        driver.ask([user(f"{index} " * 100)], SHORT)
    assert driver.ask(messages, SHORT, cache_salt="two").cached == 0
    assert driver.ask(messages, SHORT, cache_salt="one").cached > 0


def test_off_is_off(checkpoint: Path) -> None:
    assert engine_of(checkpoint).kv.host is None
    assert engine_of(checkpoint, **HOST, prefix_caching=False).kv.host is None


def test_less_than_a_block_is_refused(checkpoint: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        engine_of(checkpoint, host_kv_bytes=1000)
    assert caught.value.field == "host_kv_bytes"


def test_break_even() -> None:
    assert BreakEven(fixed=1.0, copy=0.1, compute=0.6).min_blocks(100) == 2
    assert BreakEven(fixed=0.0, copy=0.1, compute=0.6).min_blocks(100) == 1
    assert BreakEven(fixed=0.0, copy=0.6, compute=0.6).min_blocks(100) == 101
    assert BreakEven(fixed=0.0, copy=0.9, compute=0.6).min_blocks(100) == 101


def test_the_break_even_is_measured_and_obeyed(checkpoint: Path) -> None:
    measured = host_of(engine_of(checkpoint, host_kv_bytes=16 * 2**20))
    assert measured.min_blocks >= 1
    driver = Driver(engine_of(checkpoint, kv_cache_bytes=pool(checkpoint, 24), **HOST | {"host_kv_min_blocks": 50}))
    messages = [user("open the shop " * 20)]
    driver.ask(messages, SHORT)
    for index in range(4):
        driver.ask([user(f"{index} " * 100)], SHORT)
    assert driver.ask(messages, SHORT).cached <= 16  # what the pool still has
    host = host_of(driver.engine)
    assert host.counters.loads == 0
    assert host.counters.declined > 0
