"""Answers that are reused, over HTTP: by whom, how, and until when."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from autoglm.agent.session_cache import SessionCachePurge, SessionForgotten
from autoglm.cli import main
from benchmarks.redis_server import RedisServer
from tests.server.harness import (
    MODEL,
    LiveServer,
    chat_body,
    data_url,
    engine_command,
    error_of,
    image_message,
    png,
    wait_until,
)

KEYS = ["key-of-a", "key-of-b"]
CACHING: dict[str, Any] = {"responses": True, "model_tag": "test"}
HEADER = "x-autoglm-cache"
SYSTEM = "You are a phone agent. " * 8


@pytest.fixture(scope="module")
def alone(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that remembers answers in its own memory."""
    folder = tmp_path_factory.mktemp("caching")
    server = LiveServer(folder / "server.log", engine_command(checkpoint), api_keys=KEYS, caching=CACHING)
    try:
        server.wait_ready()
        yield server
        server.wait_idle()
        assert server.stop() == 0
        assert "Traceback" not in (folder / "server.log").read_text()
    finally:
        server.close()


def ask(server: LiveServer, key: str = KEYS[0], **fields: Any) -> tuple[str | None, dict[str, Any]]:
    """How the cache took part, and the first choice."""
    headers = {"Authorization": f"Bearer {key}"}
    response = server.http.post("/v1/chat/completions", json=chat_body(**fields), headers=headers)
    assert response.status_code == 200, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return response.headers.get(HEADER), choice


def say(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_only_who_asks_for_it_takes_part(alone: LiveServer) -> None:
    for fields in ({}, {"session": "s0", "temperature": 0.7}, {"cache_salt": "x", "temperature": 1}):
        assert ask(alone, messages=say("open"), **fields)[0] is None


def test_a_session_reuses_its_own_answers(alone: LiveServer) -> None:
    how, first = ask(alone, messages=say("打开微信"), session="s1")
    again, second = ask(alone, messages=say(" 打开微信。"), session="s1")
    assert (how, again) == ("miss", "hit")
    assert first == second
    for fields in (
        {"session": "s2"},
        {"session": "s1", "key": KEYS[1]},
        {"session": "s1", "user": "u"},
        {"session": "s1", "cache_salt": "x"},
        {"session": "s1", "max_tokens": 5},
        {"session": "s1", "messages": [*say("打开微信"), {"role": "assistant", "content": "x"}, *say("打开微信")]},
    ):
        assert ask(alone, **{"messages": say("打开微信")} | fields)[0] == "miss"


def test_another_screen_is_another_question(alone: LiveServer) -> None:
    screens = [data_url(png(seed=seed)) for seed in (1, 2)]
    found = [ask(alone, messages=image_message(s), session="s3", max_tokens=2)[0] for s in (*screens, screens[0])]
    assert found == ["miss", "miss", "hit"]


def test_a_salt_reuses_equal_requests(alone: LiveServer) -> None:
    fields: dict[str, Any] = {"messages": say("hello there"), "cache_salt": "team"}
    first, second = ask(alone, **fields), ask(alone, **fields)
    assert (first[0], second[0]) == ("miss", "hit")
    assert first[1] == second[1]
    assert ask(alone, messages=say("hello there."), cache_salt="team")[0] == "miss"  # not normalised: no session
    assert ask(alone, **fields | {"key": KEYS[1]})[0] == "miss"


def test_a_hit_is_streamed_as_a_stream(alone: LiveServer) -> None:
    client = openai.OpenAI(base_url=f"{alone.url}/v1", api_key=KEYS[0], max_retries=0)

    def stream() -> tuple[str, str | None, Any]:
        with client.chat.completions.with_streaming_response.create(
            model=MODEL,
            messages=[{"role": "user", "content": "stream this"}],
            stream=True,
            stream_options={"include_usage": True},
            temperature=0,
            max_tokens=12,
            extra_body={"session": "s4"},
        ) as response:
            how = response.headers.get(HEADER)
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
        assert lines[-1] == "[DONE]"
        chunks = [json.loads(line) for line in lines[:-1]]
        text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
        assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] in ("stop", "length")
        return text, how, chunks[-1]["usage"]

    first, second = stream(), stream()
    assert (first[1], second[1]) == ("miss", "hit")
    assert (first[0], first[2]) == (second[0], second[2])
    how, whole = ask(alone, messages=say("stream this"), session="s4", max_tokens=12)
    assert (how, whole["message"]["content"]) == ("hit", first[0])
    client.close()


def test_equal_requests_at_once_run_once_and_survive_their_first(alone: LiveServer) -> None:
    fields: dict[str, Any] = {"messages": say("at once"), "session": "s5", "max_tokens": 400, "ignore_eos": True}
    alone.http.headers["Authorization"] = f"Bearer {KEYS[0]}"
    start = alone.engine("generated_tokens")
    leader = alone.raw()
    body = json.dumps(chat_body(**fields)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEYS[0]}\r\n"
    leader.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    wait_until(lambda: alone.engine("running") == 1, what="the first request")
    found: list[tuple[str | None, dict[str, Any]]] = []
    follower = threading.Thread(target=lambda: found.append(ask(alone, **fields)))
    follower.start()
    wait_until(lambda: alone.metrics()["autoglm_requests_in_flight"] == 2, what="the follower")
    leader.close()
    follower.join(60)
    assert found[0][0] == "joined"
    assert found[0][1]["finish_reason"] == "length"
    assert alone.engine("generated_tokens") - start == 400  # one request's worth
    assert ask(alone, **fields)[0] == "hit"


def test_a_purge_forgets_a_session(alone: LiveServer) -> None:
    fields: dict[str, Any] = {"messages": say("secret"), "session": "s6"}
    assert [ask(alone, **fields)[0] for _ in range(2)] == ["miss", "hit"]
    # Another key's purge is of another session.
    assert SessionCachePurge(f"{alone.url}/v1", KEYS[1])("s6") == SessionForgotten(0, everywhere=True)
    assert ask(alone, **fields)[0] == "hit"
    assert SessionCachePurge(f"{alone.url}/v1", KEYS[0])("s6") == SessionForgotten(1, everywhere=True)
    assert [ask(alone, **fields)[0] for _ in range(2)] == ["miss", "hit"]
    refused = alone.http.delete("/v1/sessions/a:b/cache", headers={"Authorization": f"Bearer {KEYS[0]}"})
    assert refused.status_code == 400
    assert error_of(refused)["param"] == "session"
    assert SessionCachePurge("http://127.0.0.1:1/v1")("s6").error is not None


def test_the_command_line(alone: LiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEYS[0])
    at = ["--url", alone.url, "--api-key-file", str(keys)]
    ask(alone, messages=say("cli"), session="s7")
    assert main(["cache", "stats", *at]) == 0
    out = capsys.readouterr().out
    for part in ("responses", "dialogue", "kv_prefix", "no shared store"):
        assert part in out
    assert main(["cache", "stats", "--json", *at]) == 0
    found = json.loads(capsys.readouterr().out)
    for cache in found["engine"]:
        assert {"hits", "misses", "loads", "load_seconds", "causes", "bytes", "hit_age_seconds"} <= set(cache)
    for cache in found["tiered"]:
        assert {"local_hits", "misses", "loads", "load_seconds", "hit_age_seconds"} <= set(cache["counters"])
        assert {"bytes", "entries", "evicted_size", "evicted_expired"} <= set(cache["local"])
    assert {"hits", "misses", "loads", "load_seconds", "hit_age_seconds", "evicted_cap", "bytes"} <= set(
        found["dialogue"]
    )
    assert main(["cache", "purge", "--session", "s7", *at]) == 0
    assert "1 answers of session s7 are gone" in capsys.readouterr().out
    assert main(["cache", "purge", *at]) == 0
    assert main(["cache", "warm", *at]) == 0
    assert "0 entries are warm" in capsys.readouterr().out
    assert main(["cache", "stats", "--url", alone.url]) == 2
    assert "API key" in capsys.readouterr().err
    assert main(["cache", "stats", "--url", "http://127.0.0.1:1"]) == 2
    assert "no server at" in capsys.readouterr().err


Start = Callable[..., LiveServer]


@pytest.fixture
def start(tmp_path: Path, checkpoint: Path) -> Iterator[Start]:
    """Starts servers of this test's own."""
    servers: list[LiveServer] = []

    def begin(**caching: Any) -> LiveServer:
        log = tmp_path / f"{len(servers)}.log"
        servers.append(LiveServer(log, engine_command(checkpoint), caching=CACHING | caching))
        servers[-1].wait_ready()
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


def test_two_servers_share_answers_sessions_and_purges(start: Start, tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--requirepass", "secret-word") as redis:
        url = redis.url.replace("redis://", "redis://:secret-word@")
        one, two = start(redis_url=url), start(redis_url=url)

        def up(server: LiveServer) -> bool:
            return bool(server.http.get("/v1/cache/stats").json()["shared"]["link"] == "up")

        wait_until(lambda: up(one) and up(two), what="links")
        for fields in ({"session": "s"}, {"cache_salt": "x"}):
            how, answer = ask(one, messages=say("shared"), **fields)
            assert how == "miss"
            wait_until(lambda fields=fields: ask(two, messages=say("shared"), **fields)[0] == "hit", what="a hit")
            assert ask(two, messages=say("shared"), **fields) == ("hit", answer)
        assert SessionCachePurge(f"{two.url}/v1")("s").everywhere
        assert ask(one, messages=say("shared"), session="s")[0] == "miss"
        assert one.http.get("/v1/models").json() == two.http.get("/v1/models").json()
        redis.kill()
        assert ask(one, messages=say("shared"), session="s")[0] == "miss"
        assert ask(two, messages=say("other"), cache_salt="x")[0] == "miss"
        purge = one.http.delete("/v1/sessions/s/cache")
        assert (purge.status_code, purge.json()["everywhere"]) == (202, False)
        for server in (one, two):
            assert server.stop() == 0
            assert "secret-word" not in server.log.read_text()


def test_a_restarted_server_is_warm(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "warm" / "up"
    options: dict[str, Any] = {
        "warm_up": str(file),
        "warm_up_wait": True,
        "warm_up_prompts": ["You are a phone agent."],
    }
    first = start(**options)
    fields: dict[str, Any] = {"messages": say("keep me"), "cache_salt": "x"}
    assert ask(first, **fields)[0] == "miss"
    assert ask(first, messages=say("forget me"), session="s")[0] == "miss"
    assert first.stop() == 0
    assert file.stat().st_mode & 0o777 == 0o600
    second = start(**options)
    assert ask(second, **fields)[0] == "hit"
    assert ask(second, messages=say("forget me"), session="s")[0] == "miss"  # sessions do not outlive their server
    system = [{"role": "system", "content": SYSTEM}, *say("hello")]
    answer = second.chat(messages=system).json()
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert second.http.post("/v1/cache/purge").json() == {"everywhere": True}
    assert second.stop() == 0
    file.write_bytes(b"damaged")
    third = start(**options)
    assert ask(third, **fields)[0] == "miss"
    assert third.stop() == 0
