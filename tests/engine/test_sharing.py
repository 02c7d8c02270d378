"""Blocks and features that outlive their engine: found by the next one, exact to the bit, never another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from autoglm.engine import Engine
from autoglm.engine.features import pack, unpack
from autoglm.errors import InvalidInputError
from autoglm.messages import ChatMessage
from autoglm.model.context import ImageFeatures
from autoglm.synthetic import make_checkpoint, make_phone_checkpoint
from tests.cache.host.redis_server import RedisServer, redis_server
from tests.engine.harness import GREEDY, Driver, Result, engine_of, screen, user

SHARED: dict[str, Any] = {"host_kv_bytes": 16 * 2**20, "host_kv_min_blocks": 1, "kv_fetch_ms": 60_000}
SHORT = msgspec.structs.replace(GREEDY, max_tokens=6, ignore_eos=True)
SCREEN = screen(1, 56, 84)
FIRST = [ChatMessage("system", "You operate a phone. " * 8), user(SCREEN, "open the shop")]
SECOND = [*FIRST, ChatMessage("assistant", "do(action='Tap')"), user("and now the first offer")]


@pytest.fixture(scope="module", params=["glm4v", "phone"])
def layout(request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint if request.param == "glm4v" else make_phone_checkpoint(tmp_path_factory.mktemp("phone"))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis") / "log") as server:
        yield server


def answers(checkpoint: Path, *requests: list[ChatMessage], salt: str = "", **options: Any) -> tuple[list[Result], Any]:
    """Ask a new engine, end it, and give what it said and its statistics by cache."""
    driver = Driver(engine_of(checkpoint, **options))
    results = [driver.ask(messages, SHORT, cache_salt=salt) for messages in requests]
    driver.engine.close()
    return results, {c.name: c for c in driver.engine.stats().caches}


def test_a_dialogue_goes_on_in_another_engine(layout: Path, tmp_path: Path, redis: RedisServer) -> None:
    (plain,), _ = answers(layout, SECOND)
    for store in ({"kv_disk_directory": str(tmp_path)}, {"kv_redis_url": redis.url}):
        answers(layout, FIRST, **SHARED, **store)
        (moved,), stats = answers(layout, SECOND, **SHARED, **store)
        assert moved.tokens == plain.tokens
        assert moved.cached >= 64
        assert stats["kv_host"].hits == moved.cached
        assert stats["kv_disk" if "kv_disk_directory" in store else "kv_redis"].hits > 0
        (other,), stats = answers(layout, SECOND, salt="tenant", **SHARED, **store)
        assert other.cached == 0
        assert other.tokens == plain.tokens
        assert stats["visual_features"].loads == 0


def test_an_image_is_encoded_by_one_replica_only(layout: Path, tmp_path: Path) -> None:
    # Another system prompt: no block can be shared, the picture can.
    elsewhere = [ChatMessage("system", "Something else."), user(SCREEN, "open the shop")]
    (plain,), _ = answers(layout, elsewhere)
    store = {"kv_disk_directory": str(tmp_path)}
    answers(layout, FIRST, **SHARED, **store)
    (shared,), stats = answers(layout, elsewhere, **SHARED, **store)
    assert shared.tokens == plain.tokens
    assert shared.cached == 0
    assert (stats["visual_features"].loads, stats["visual_features"].misses) == (1, 0)
    _, stats = answers(layout, elsewhere, share_features=False, **SHARED, **store)
    assert (stats["visual_features"].loads, stats["visual_features"].misses) == (0, 1)


def test_shared_features_are_equal_to_the_bit(layout: Path, tmp_path: Path) -> None:
    store = {"kv_disk_directory": str(tmp_path)}

    def features(engine: Engine) -> ImageFeatures:
        prompt = engine.prompts.build(FIRST)
        found = engine.visual.pin(("", prompt.images[0].image.digest))
        assert found is not None
        return found

    one = Driver(engine_of(layout, **SHARED, **store))
    one.ask(FIRST, SHORT)
    one.engine.close()
    two = Driver(engine_of(layout, **SHARED, **store))
    two.ask([user(SCREEN, "hi")], SHORT)
    two.engine.close()
    assert two.engine.visual.counters.misses == 0
    for a, b in zip(features(one.engine).tensors, features(two.engine).tensors, strict=True):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype


def test_other_weights_share_nothing(checkpoint: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other", "tiny", seed=1)
    store = {"kv_disk_directory": str(tmp_path / "kv")}
    answers(checkpoint, FIRST, **SHARED, **store)
    (found,), stats = answers(other, SECOND, **SHARED, **store)
    assert found.cached == 0
    assert stats["visual_features"].loads == 0
    assert stats["kv_disk"].hits == 0


def test_a_dead_redis_costs_nothing_but_the_hits(checkpoint: Path, tmp_path: Path) -> None:
    (plain,), _ = answers(checkpoint, SECOND)
    with redis_server(tmp_path / "log") as server:
        options = SHARED | {"kv_redis_url": server.url}
        answers(checkpoint, FIRST, **options)
        driver = Driver(engine_of(checkpoint, **options))
        server.kill()
        result = driver.ask(SECOND, SHORT)
        driver.engine.close()
        assert result.tokens == plain.tokens
        assert result.cached == 0


def test_cancelled_while_it_waits(checkpoint: Path, redis: RedisServer) -> None:
    driver = Driver(engine_of(checkpoint, **SHARED, kv_redis_url=redis.url))
    request_id = driver.submit(SECOND, SHORT)
    while driver.engine.admission.pending:
        driver.step()
    driver.engine.cancel(request_id)
    driver.drain()
    assert driver.engine.kv.available == driver.engine.kv.num_blocks
    driver.engine.close()


def test_shared_stores_need_the_host_tier() -> None:
    for options in ({"kv_disk_directory": "x"}, {"kv_redis_url": "redis://127.0.0.1"}):
        with pytest.raises(InvalidInputError) as caught:
            engine_of(Path("unused"), **options)
        assert caught.value.field == next(iter(options))


def test_packed_features_are_exact_or_refused() -> None:
    features = ImageFeatures((torch.randn(3, 4), torch.randn(2, 0, 5), torch.randn(7).bfloat16(), torch.arange(3)))
    payload = pack(features)
    again = unpack(memoryview(payload), torch.device("cpu"))
    assert again is not None
    for a, b in zip(features.tensors, again.tensors, strict=True):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype
    for broken in (payload[:-1], payload + b"x", payload[3:], b"", b"\x02\x00\x00\x00{}"):
        assert unpack(memoryview(broken), torch.device("cpu")) is None
