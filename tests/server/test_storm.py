"""Many clients at once, a part of which leave at random: nothing is lost and nothing leaks."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import psutil

from tests.server.harness import LiveServer, chat_body, data_url, image_message, png

REQUESTS, CLIENTS = 200, 16
URLS = [data_url(png(56, 56, seed=seed)) for seed in range(4)]


def body_of(number: int) -> dict[str, Any]:
    draw = random.Random(number)
    words = " ".join(str(draw.randrange(50)) for _ in range(draw.randrange(5, 60)))
    messages: Any = [{"role": "system", "content": "shared prefix " * 10}, {"role": "user", "content": words}]
    if number % 4 == 0:
        messages[1:] = image_message(URLS[number // 4 % 4], words)
    return chat_body(
        messages=messages,
        max_tokens=draw.randrange(1, 12),
        n=draw.choice([1, 1, 1, 2]),
        temperature=draw.choice([0, 1]),
        stream=draw.random() < 0.7,
    )


async def ask(client: httpx.AsyncClient, number: int) -> str:
    """``done`` or ``left``; anything else fails the test."""
    body, draw = body_of(number), random.Random(-number)
    patience = draw.uniform(0, 0.3) if draw.random() < 0.3 else 120.0
    try:
        async with asyncio.timeout(patience):
            if not body["stream"]:
                answer = await client.post("/v1/chat/completions", json=body)
                assert answer.status_code == 200, answer.text
                assert len(answer.json()["choices"]) == body["n"]
                return "done"
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                assert response.status_code == 200
                lines = [line async for line in response.aiter_lines()]
            assert lines[-2:] == ["data: [DONE]", ""]
            ends = [line for line in lines if '"finish_reason":"' in line]
            assert len(ends) == body["n"]
            return "done"
    except TimeoutError:
        assert patience < 1, f"request {number} was lost"
        return "left"


async def storm(url: str) -> list[str]:
    numbers = iter(range(REQUESTS))
    outcomes: list[str] = []

    async def worker() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=None) as client:
            for number in numbers:
                outcomes.append(await ask(client, number))

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(worker())
    return outcomes


def test_nothing_is_lost_or_leaked(server: LiveServer) -> None:
    asyncio.run(storm(server.url))  # warm: allocators and caches take their size
    server.wait_idle()
    before, process = server.metrics(), psutil.Process(server.process.pid)
    memory = process.memory_info().rss
    outcomes = asyncio.run(storm(server.url))
    assert len(outcomes) == REQUESTS
    assert {"done", "left"} == set(outcomes)
    server.wait_idle()
    after = server.metrics()

    def gained(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    served = sum(gained(f'autoglm_requests_total{{status="{status}"}}') for status in ("200", "cancelled"))
    # A client may leave before its request has come in, and after its answer has gone out.
    assert outcomes.count("done") <= served <= REQUESTS
    assert sum(gained(k) for k in after if k.startswith("autoglm_requests_total")) == served
    assert gained("autoglm_ttft_seconds_count") <= served
    assert process.memory_info().rss - memory < 30 * 2**20
    assert gained('autoglm_engine{name="resident_bytes"}') < 60 * 2**20
