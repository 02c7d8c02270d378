"""Which of the server's caches are on, and what the engine is told to share."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import httpx
import pytest

from autoglm.commands.caching import add_caching_options, sharing_prompts
from autoglm.commands.options import add_engine_options, engine_config
from autoglm.engine import EngineConfig
from autoglm.engine.sharing import shared_prompts
from autoglm.server import EngineLink, LinkState, ServerConfig
from autoglm.server.app import create_app
from autoglm.server.caching.caches import Cards, ServerCaches
from autoglm.server.caching.config import CachingConfig


@pytest.mark.parametrize(("models", "loads"), [(True, 1), (False, 2)])
async def test_the_list_of_models(models: bool, loads: int) -> None:
    caches = ServerCaches(CachingConfig(models=models), EngineLink(["true"], 1))
    made = 0

    async def load(_key: str) -> Cards:
        nonlocal made
        made += 1
        return [{"id": "model"}]

    for _ in range(2):
        assert await caches.models.get_or_load("all", load) == [{"id": "model"}]
    assert made == loads
    await caches.close()


@pytest.mark.parametrize("wait", [True, False])
async def test_readiness_waits_for_the_warm_up_if_told_to(wait: bool, tmp_path: Path) -> None:
    link = EngineLink(["true"], 1)
    caches = ServerCaches(CachingConfig(warm_up=tmp_path / "warm", warm_up_wait=wait), link)
    link.state = LinkState.READY  # the engine is; what is left to wait for is the caches
    transport = httpx.ASGITransport(create_app(ServerConfig(), link, caches))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/health")).status_code == (503 if wait else 200)
        caches.start()
        while not caches.warm:
            await asyncio.sleep(0.001)
        assert (await client.get("/health")).status_code == 200
    await caches.close()


def engine_of(*arguments: str) -> EngineConfig:
    parser = argparse.ArgumentParser()
    add_caching_options(parser)
    add_engine_options(parser)
    options = parser.parse_args(arguments)
    return sharing_prompts(engine_config(options), options)


def test_prompts_are_shared_where_answers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_of().prompt_redis_url == ""
    found = engine_of("--redis-url", "redis://a", "--cache-namespace", "n")
    assert (found.prompt_redis_url, found.prompt_namespace) == ("redis://a", "n")
    own = engine_of("--redis-url", "redis://a", "--prompt-redis-url", "redis://b", "--prompt-namespace", "m")
    assert (own.prompt_redis_url, own.prompt_namespace) == ("redis://b", "m")
    monkeypatch.setenv("AUTOGLM_REDIS_URL", "redis://:secret@127.0.0.1:1")
    assert engine_of().prompt_redis_url == ""  # the engine reads it from there: others can read command lines
    shared = shared_prompts(engine_of())
    assert shared is not None
    assert shared.level.address == "redis://127.0.0.1:1"
    shared.close()
    assert shared_prompts(engine_of("--no-share-prompts")) is None
