"""The streaming client against a real server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from autoglm.agent.dialogue import Dialogue, data_url, system_prompt
from autoglm.agent.model_client import ModelClient, ModelConfig, Usage
from autoglm.agent.sse import MAX_EVENT_BYTES, event_data
from autoglm.errors import (
    AuthenticationError,
    AutoGLMError,
    EngineUnavailableError,
    InvalidInputError,
    ModelServerError,
    NotFoundError,
    OverloadedError,
    RequestTimeoutError,
)
from tests.agent.model_server import ModelServer, Refuse, Say
from tests.agent.phone import CounterPhone

HELLO = [{"role": "user", "content": "Hi"}]


@asynccontextmanager
async def client_of(url: str, **fields: Any) -> AsyncIterator[ModelClient]:
    client = ModelClient(ModelConfig(url, **fields))
    try:
        yield client
    finally:
        await client.close()


async def read(url: str, messages: Any = HELLO, **fields: Any) -> tuple[str, Usage, str | None]:
    async with client_of(url, **fields) as client, client.ask(client.encode(messages)) as answer:
        text = ""
        async with aclosing(answer.pieces()) as pieces:
            async for piece in pieces:
                assert piece.at >= answer.sent_at
                text += piece.text
        return text, answer.usage, answer.finish_reason


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
async def test_an_answer_with_usage(model: ModelServer, line_end: str) -> None:
    text = "想\u2028法\x85 and 'more'"  # other line separators are text
    model.script(Say(text, piece=2, line_end=line_end))
    assert await read(model.url) == (text, Usage(100, 60, 9, 7), "stop")


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "many", "prompt_tokens_details": None}])
async def test_usage_that_is_not_there(model: ModelServer, usage: dict[str, Any] | None) -> None:
    model.script(Say("x", usage=usage))
    assert await read(model.url) == ("x", Usage(), "stop")


async def test_request_equals_the_clients(model: ModelServer) -> None:
    """Byte-equal messages and equal fields to what the client's own SDK call sends."""
    phone, outputs = CounterPhone(), ['<think>想\n</think>\n<answer>do(action="Back")', 'finish(message="好")']
    dialogue = Dialogue("打开设置", system_prompt("zh", datetime.date(2025, 12, 11)))
    messages: list[dict[str, Any]] = [{"role": "system", "content": system_prompt("zh", datetime.date(2025, 12, 11))}]
    for step, output in enumerate(outputs):
        model.script("ok")
        dialogue.show(screen := phone.capture())
        assert (await read(model.url, dialogue.messages))[0] == "ok"
        app = json.dumps({"current_app": screen.current_app}, ensure_ascii=False)
        text = f"打开设置\n\n{app}" if step == 0 else f"** Screen Info **\n\n{app}"
        image = {"type": "image_url", "image_url": {"url": data_url(screen.png)}}
        messages.append({"role": "user", "content": [image, {"type": "text", "text": text}]})
        await asyncio.to_thread(ask_as_the_client_does, model.url, messages)
        ours, theirs = model.requests
        assert ours.pop("stream_options") == {"include_usage": True}
        assert ours == theirs
        assert json.dumps(ours["messages"]) == json.dumps(theirs["messages"])  # order of keys, too
        dialogue.answer(output)
        thinking, action = split_as_the_client_does(output)
        messages[-1]["content"] = [part for part in messages[-1]["content"] if part["type"] == "text"]
        messages.append({"role": "assistant", "content": f"<think>{thinking}</think><answer>{action}</answer>"})
    assert dialogue.messages == messages


def ask_as_the_client_does(url: str, messages: list[Any]) -> None:
    with openai.OpenAI(base_url=url, api_key="EMPTY") as sdk:
        stream = sdk.chat.completions.create(
            messages=messages,
            model="autoglm-phone-9b",
            max_tokens=3000,
            temperature=0.0,
            top_p=0.85,
            frequency_penalty=0.2,
            extra_body={},
            stream=True,
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "ok"


def split_as_the_client_does(content: str) -> tuple[str, str]:
    for marker in ("finish(message=", "do(action="):
        if marker in content:
            thinking, action = content.split(marker, 1)
            return thinking.strip(), marker + action
    raise AssertionError(content)


@pytest.mark.parametrize(("language", "date"), [("zh", "2025年12月11日 星期四"), ("en", "2025-12-12, Friday")])
def test_system_prompt_is_the_clients(language: Any, date: str) -> None:
    sample = Path(__file__).parents[2] / "examples" / "open-autoglm" / f"system_{language}.txt"
    day = datetime.date(2025, 12, 11 if language == "zh" else 12)
    assert system_prompt(language, day) == sample.read_text(encoding="utf-8")
    assert date in system_prompt(language, day).splitlines()[0]


@pytest.mark.parametrize("status", [429, 503])
async def test_retryable_answers_are_tried_again(model: ModelServer, status: int) -> None:
    model.script(Refuse(status, headers={"Retry-After": "0"}), Refuse(status, headers={"Retry-After": "0"}), Say("x"))
    assert (await read(model.url))[0] == "x"
    assert len(model.requests) == 3


@pytest.mark.parametrize(("status", "kind"), [(429, OverloadedError), (503, EngineUnavailableError)])
async def test_retries_are_bounded(model: ModelServer, status: int, kind: type[AutoGLMError]) -> None:
    model.script(Refuse(status, {"error": {"message": "full", "param": "queue"}}, {"Retry-After": "0"}))
    with pytest.raises(kind, match="full") as caught:
        await read(model.url, retries=1)
    assert caught.value.field == "queue"
    assert len(model.requests) == 2


@pytest.mark.parametrize("after", ["3600", email.utils.formatdate(4e9, usegmt=True)])
async def test_a_long_pause_is_not_waited_for(model: ModelServer, after: str) -> None:
    model.script(Refuse(429, "busy", {"Retry-After": after}), Say("x"))
    with pytest.raises(OverloadedError) as caught:
        await read(model.url)
    assert caught.value.retry_after >= 3600
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidInputError),
        (401, AuthenticationError),
        (404, NotFoundError),
        (413, InvalidInputError),
        (500, ModelServerError),
        (502, ModelServerError),
        (504, RequestTimeoutError),
        (302, ModelServerError),
    ],
)
@pytest.mark.parametrize("body", ["<html>", {"error": {"message": "so it is", "param": "messages"}}, [1]])
async def test_other_answers_are_not(model: ModelServer, status: int, kind: type[AutoGLMError], body: Any) -> None:
    model.script(Refuse(status, body, {"Location": "/elsewhere"}))
    with pytest.raises(kind) as caught:
        await read(model.url)
    assert caught.value.value == status
    assert (caught.value.field == "messages") == isinstance(body, dict)
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("then", "kind", "says"),
    [
        ("break", ModelServerError, "broke"),
        ("nothing", ModelServerError, "before its end"),
        ("garbage", ModelServerError, "not a chunk"),
        ("error", EngineUnavailableError, "went away"),
    ],
)
async def test_a_stream_that_ends_badly(model: ModelServer, then: str, kind: type[AutoGLMError], says: str) -> None:
    model.script(Say("some text", then=then))
    with pytest.raises(kind, match=says):
        await read(model.url)
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("text", "limit"), [("", "first_token_timeout"), ("text", "idle_timeout"), ("text", "total_timeout")]
)
async def test_time_limits(model: ModelServer, text: str, limit: str) -> None:
    model.script(Say(text, then="hang"))
    with pytest.raises(RequestTimeoutError) as caught:
        await read(model.url, **{limit: 0.2})
    assert caught.value.field == limit
    assert caught.value.limit == 0.2
    await eventually(lambda: model.open_streams == 0)


async def test_a_server_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(RequestTimeoutError) as caught:
        await read(f"http://127.0.0.1:{silent.getsockname()[1]}/v1", first_token_timeout=0.2)
    assert caught.value.field == "first_token_timeout"


async def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(EngineUnavailableError, match="is it running") as caught:
        await read(f"http://127.0.0.1:{port}/v1")
    assert caught.value.field == "base_url"


async def test_an_answer_without_end_is_cut(model: ModelServer) -> None:
    model.script(Say("x" * 1000, piece=50))
    with pytest.raises(ModelServerError) as caught:
        await read(model.url, max_characters=200)
    assert caught.value.limit == 200
    await eventually(lambda: model.open_streams == 0)


async def test_leaving_early_ends_the_stream(model: ModelServer) -> None:
    model.script(Say("text", then="hang"))
    async with (
        client_of(model.url) as client,
        client.ask(client.encode(HELLO)) as answer,
        aclosing(answer.pieces()) as pieces,
    ):
        assert (await anext(pieces)).text
        assert model.open_streams == 1
    await eventually(lambda: model.open_streams == 0)


async def test_the_key_is_sent_and_not_shown(model: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    model.script(Refuse(401, {"error": {"message": "wrong key"}}))
    with pytest.raises(AuthenticationError) as caught:
        await read(model.url, api_key="secret-key")
    assert model.headers[0]["authorization"] == "Bearer secret-key"
    shown = repr(ModelConfig(model.url, api_key="secret-key")) + caplog.text + repr(caught.value)
    assert "secret-key" not in shown


async def test_an_event_without_end_is_refused() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_EVENT_BYTES // 2**16 + 2):
            yield b"data: " + b"x" * 2**16 + b"\n"

    with pytest.raises(ModelServerError):
        async with aclosing(event_data(chunks())) as events:
            assert [event async for event in events] == []


async def test_early_action_is_asked_for_once_the_server_says_it_can(model: ModelServer) -> None:
    known = {"x-autoglm-features": "other, early_action"}
    model.script(Say("a", headers=known), Say("b", headers=known), Say("c"), Say("d"))
    async with client_of(model.url) as client:
        for _ in range(4):
            async with client.ask(client.encode(HELLO)) as answer, aclosing(answer.pieces()) as pieces:
                assert [piece.text async for piece in pieces]
    assert ["early_action" in request for request in model.requests] == [False, True, True, False]


async def test_a_server_that_refuses_early_action_is_asked_without(model: ModelServer) -> None:
    refusal = Refuse(400, {"error": {"message": "no such field", "param": "early_action", "code": "invalid_input"}})
    model.script(refusal, "a", "b")
    async with client_of(model.url, early_action=True, retries=0) as client:
        for _ in range(2):
            async with client.ask(client.encode(HELLO)) as answer, aclosing(answer.pieces()) as pieces:
                assert [piece.text async for piece in pieces]
    assert [request.get("early_action") for request in model.requests] == [True, None, None]


async def test_another_mistake_is_not_asked_again(model: ModelServer) -> None:
    model.script(Refuse(400, {"error": {"message": "too hot", "param": "temperature", "code": "invalid_input"}}))
    with pytest.raises(InvalidInputError, match="too hot"):
        await read(model.url, early_action=True)
    assert len(model.requests) == 1


async def test_early_action_can_be_switched_off(model: ModelServer) -> None:
    known = {"x-autoglm-features": "early_action"}
    model.script(Say("a", headers=known))
    async with client_of(model.url, early_action=False) as client:
        for _ in range(2):
            async with client.ask(client.encode(HELLO)) as answer, aclosing(answer.pieces()) as pieces:
                assert [piece.text async for piece in pieces]
    assert not any("early_action" in request for request in model.requests)
    event = 'event: action\ndata: {"object": "chat.completion.action", "index": 0, "action": {"type": "Back"}}\n\n'
    model.script(Say("x", before=event))
    assert (await read(model.url))[0] == "x"
