"""Two server processes and a Redis: a dialogue that moves to the other server is no stranger there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis import Redis

from tests.cache.host.redis_server import redis_server
from tests.server.harness import LiveServer, data_url, engine_command, error_of, image_message, png, wait_until

TURN = image_message(data_url(png()), "open the shop and look for shoes")
SYSTEM = {"role": "system", "content": "You operate a phone. " * 50}


def cached(answer: dict[str, Any]) -> int:
    tokens: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


def loaded(server: LiveServer, cache: str) -> tuple[float, float]:
    """Hits of a shared cache, and values made here."""
    found = server.metrics()
    hits, loads = (found[f'autoglm_cache{{cache="{cache}",name="{name}"}}'] for name in ("hits", "loads"))
    return hits, loads


def test_a_dialogue_moves_to_another_server(checkpoint: Path, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis.log") as redis:
        command = engine_command(
            checkpoint,
            host_kv_bytes=32 * 2**20,
            host_kv_min_blocks=1,
            kv_redis_url=redis.url,
            kv_fetch_ms=60_000,
            prompt_redis_url=redis.url,
        )
        caching = {"redis_url": redis.url}
        servers = [LiveServer(tmp_path / f"{name}.log", command, caching=caching) for name in ("one", "two")]
        try:
            one, two = servers
            for server in servers:
                server.wait_ready()
            first = one.chat(messages=[SYSTEM, *TURN]).json()
            wait_until(
                lambda: one.metrics()['autoglm_cache{cache="kv_redis",name="entries"}'] >= 5, what="written blocks"
            )
            said = {"role": "assistant", "content": first["choices"][0]["message"]["content"]}
            messages = [SYSTEM, *TURN, said, {"role": "user", "content": "the first one"}]
            moved = two.chat(messages=messages).json()
            stayed = one.chat(messages=messages).json()
            assert moved["choices"] == stayed["choices"]
            assert cached(moved) >= first["usage"]["prompt_tokens"] // 16 * 16
            assert two.metrics()['autoglm_cache{cache="kv_redis",name="hits"}'] >= 5
            # What the first had decoded and tokenised, the second did not.
            assert loaded(one, "images_redis") == (0, 1)
            assert loaded(two, "images_redis") == (1, 0)
            assert loaded(two, "texts_redis") == (1, 0)
            purge = two.http.post("/v1/cache/purge?cache=prompts")
            assert (purge.status_code, purge.json()) == (200, {"everywhere": True})
            with Redis.from_url(redis.url) as client:
                assert not client.keys("autoglm:v:images:*") + client.keys("autoglm:v:texts:*")
            assert two.metrics()['autoglm_cache{cache="processed_images",name="entries"}'] == 0
            # Another tenant of the second server finds nothing.
            assert cached(two.chat(messages=messages, cache_salt="tenant").json()) == 0
            redis.kill()
            alone = two.chat(messages=[SYSTEM, {"role": "user", "content": "hello"}])
            assert alone.status_code == 200, error_of(alone)
            assert [server.stop() for server in servers] == [0, 0]
            assert not any("Traceback" in server.log.read_text() for server in servers)
        finally:
            for server in servers:
                server.close()
