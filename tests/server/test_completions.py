"""Chat completions beyond the phone client, and the small routes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from autoglm import __version__
from tests.server.harness import MODEL, LiveServer, error_of

MESSAGES: Any = [{"role": "user", "content": "tell me"}]


def content(server: LiveServer, **fields: Any) -> str:
    found: str = server.chat(**fields).json()["choices"][0]["message"]["content"]
    return found


def chunks(server: LiveServer, **fields: Any) -> list[ChatCompletionChunk]:
    extra: dict[str, Any] = {"max_tokens": 6, "temperature": 0} | fields
    return list(server.openai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **extra))


def test_stream_equals_whole(server: LiveServer) -> None:
    whole = server.chat(messages=MESSAGES, max_tokens=24).json()["choices"][0]["message"]["content"]
    parts = chunks(server, max_tokens=24)
    assert "".join(c.choices[0].delta.content or "" for c in parts) == whole
    assert len({c.id for c in parts}) == 1


def test_three_choices(server: LiveServer) -> None:
    answer = server.openai.chat.completions.create(
        model=MODEL, messages=MESSAGES, n=3, max_tokens=6, temperature=1.0, seed=7
    )
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert len({c.message.content for c in answer.choices}) > 1
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 18
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    parts = chunks(server, n=3, temperature=1.0, seed=7)
    for index, choice in enumerate(answer.choices):
        own = [c.choices[0] for c in parts if c.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(c.delta.content or "" for c in own) == choice.message.content
        assert [c.finish_reason for c in own if c.finish_reason] == [choice.finish_reason]


def test_logprobs(server: LiveServer) -> None:
    answer = server.openai.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3
    )
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert answer.usage is not None
    assert len(found.content) == answer.usage.completion_tokens
    for token in found.content:
        assert token.logprob <= 0
        assert math.isfinite(token.logprob)
        assert len(token.top_logprobs) == 3
        values = [t.logprob for t in token.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert token.logprob == values[0]  # greedy
        assert bytes(token.bytes or []).decode("utf-8", "replace") == token.token


def test_logprobs_alone_and_streamed(server: LiveServer) -> None:
    fields: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 4, "logprobs": True}
    whole = server.chat(**fields).json()["choices"][0]["logprobs"]["content"]
    assert all(token["top_logprobs"] == [] for token in whole)
    streamed: list[str] = []
    for chunk in chunks(server, max_tokens=4, logprobs=True):
        found = chunk.choices[0].logprobs
        streamed += [t.token for t in (found.content or [])] if found else []
    assert streamed == [token["token"] for token in whole]


def test_stop_string(server: LiveServer) -> None:
    full = content(server, messages=MESSAGES, max_tokens=24)
    middle = full[len(full) // 2 : len(full) // 2 + 3]
    answer = server.chat(messages=MESSAGES, max_tokens=24, stop=[middle]).json()["choices"][0]
    assert answer["finish_reason"] == "stop"
    assert answer["message"]["content"] == full[: full.index(middle)]
    kept = content(server, messages=MESSAGES, max_tokens=24, stop=middle, include_stop_str_in_output=True)
    assert kept == full[: full.index(middle)] + middle


def test_usage_chunk_only_on_request(server: LiveServer) -> None:
    parts = chunks(server, stream_options={"include_usage": True})
    assert parts[-1].choices == []
    assert parts[-1].usage is not None
    assert parts[-1].usage.completion_tokens >= 1
    assert all(c.usage is None and c.choices for c in parts[:-1])
    assert all(c.usage is None for c in chunks(server))


def test_seed_fixes_the_draw(server: LiveServer) -> None:
    fields: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 12, "temperature": 1.5}
    first, again, other = (content(server, seed=seed, **fields) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_max_completion_tokens(server: LiveServer) -> None:
    answer = server.chat(max_tokens=None, max_completion_tokens=3, ignore_eos=True).json()
    assert answer["usage"]["completion_tokens"] == 3
    assert answer["choices"][0]["finish_reason"] == "length"


def test_models(server: LiveServer) -> None:
    assert [m.id for m in server.openai.models.list()] == [MODEL]
    assert server.openai.models.retrieve(MODEL).object == "model"
    missing = server.http.get("/v1/models/none")
    assert missing.status_code == 404
    assert error_of(missing)["param"] == "model"


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/health/live"])
def test_health(server: LiveServer, path: str) -> None:
    answer = server.http.get(path)
    assert answer.status_code == 200
    assert answer.json()["engine"] == "ready"
    assert answer.json()["model"]["layout"] == "glm4v"


def test_metrics_count(server: LiveServer) -> None:
    before = server.metrics()
    server.chat(messages=[{"role": "user", "content": "count this"}], max_tokens=3, ignore_eos=True)
    after = server.metrics()

    def gained(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert gained('autoglm_requests_total{status="200"}') == 1
    assert gained('autoglm_tokens_total{kind="completion"}') == 3
    assert gained("autoglm_ttft_seconds_count") == 1
    assert gained('autoglm_engine{name="generated_tokens"}') == 3
    assert after["autoglm_engine_up"] == 1
    assert after['autoglm_cache{cache="kv_prefix",name="capacity_bytes"}'] > 0


def test_index_and_wrong_turns(server: LiveServer) -> None:
    assert server.http.get("/").json()["version"] == __version__
    assert error_of(server.http.get("/nothing"))["code"] == "not_found"
    wrong = server.http.get("/v1/chat/completions")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert error_of(wrong)["code"] == "method_not_allowed"
