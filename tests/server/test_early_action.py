"""Answers that end at their action: the packaged model behind the real server, at a screen of the simulated phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from autoglm.agent.actions import format_action, named_arguments
from autoglm.agent.devices.simulated import PhoneSpec, SimulatedPhone
from autoglm.agent.dialogue import Dialogue
from autoglm.agent.grammar import parse_output
from autoglm.model.resolve import PACKAGED, resolve_checkpoint
from autoglm.server.early_action import action_of
from tests.server.harness import LiveServer, engine_command

SAMPLING: dict[str, Any] = {"max_tokens": 200, "temperature": 0, "frequency_penalty": 0.2}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    server = LiveServer(log, engine_command(resolve_checkpoint(PACKAGED)))
    try:
        server.wait_ready()
        yield server
        server.wait_idle()
        assert server.stop() == 0
        assert "Traceback" not in log.read_text()
    finally:
        server.close()


@pytest.fixture(scope="module")
def question() -> list[dict[str, Any]]:
    dialogue = Dialogue("打开设置")
    dialogue.show(SimulatedPhone(PhoneSpec.random(1)).capture())
    return dialogue.messages


def events(server: LiveServer, **fields: Any) -> list[tuple[str, Any]]:
    """(event's name, its data) of a streamed answer."""
    found: list[tuple[str, Any]] = []
    body = SAMPLING | {"model": "autoglm-phone-9b", "stream": True, "stream_options": {"include_usage": True}} | fields
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["x-autoglm-features"] == "early_action"
        name = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                found.append((name, line[6:] if line[6:] == "[DONE]" else json.loads(line[6:])))
            elif not line:
                name = ""
    return found


def text_of(found: list[tuple[str, Any]]) -> str:
    chunks = [data for name, data in found if not name and data != "[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])


def test_the_event_comes_before_the_end_and_nothing_follows_the_action(
    mini: LiveServer, question: list[dict[str, Any]]
) -> None:
    whole = events(mini, messages=question)
    assert {name for name, _ in whole} == {""}
    early = events(mini, messages=question, early_action=True)
    text = text_of(early)
    assert text == text_of(whole)  # the stop token gave no text; it is only not generated now
    _, action = parse_output(text)
    assert text.endswith(format_action(action)[-1])
    names = [name for name, _ in early]
    at = names.index("action")
    assert names.count("action") == 1
    kind, arguments = named_arguments(action)
    arguments = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
    assert early[at][1]["action"] == {"type": kind, "arguments": arguments}
    assert early[at][1]["index"] == 0
    assert early[at][1]["object"] == "chat.completion.action"
    assert early[at][1]["choices"] == []  # so that a loop over chunks passes it by
    assert early[at - 1][1]["choices"][0]["delta"]["content"].endswith(")")
    assert early[at + 1][1]["choices"][0]["finish_reason"] == "stop"
    assert early[-1][1] == "[DONE]"
    spent, unshortened = (found[-2][1]["usage"]["completion_tokens"] for found in (early, whole))
    assert spent == unshortened - 1
    # The second answer was the first one again, and the engine had guessed so.
    details = early[-2][1]["usage"]["completion_tokens_details"]
    assert 0 < details["accepted_tokens"] <= details["drafted_tokens"]
    assert mini.engine("accepted_tokens") >= details["accepted_tokens"]
    assert mini.engine("tokens_per_step") > 1
    assert 0 < mini.engine("acceptance_rate") <= 1


def test_whole(mini: LiveServer, question: list[dict[str, Any]]) -> None:
    body = SAMPLING | {"messages": question, "early_action": True, "n": 2}
    answer = mini.chat(**body).json()
    assert len(answer["choices"]) == 2
    for choice in answer["choices"]:
        assert choice["finish_reason"] == "stop"
        assert choice["action"] == action_of(choice["message"]["content"])
        assert choice["action"] is not None
    assert "action" not in mini.chat(**(body | {"early_action": False})).json()["choices"][0]


def test_no_action_no_event(mini: LiveServer, question: list[dict[str, Any]]) -> None:
    found = events(mini, messages=question, early_action=True, max_tokens=5)
    assert "action" not in [name for name, _ in found]
    reasons = [data["choices"][0]["finish_reason"] for _, data in found if data != "[DONE]" and data["choices"]]
    assert reasons[-1] == "length"
    answer = mini.chat(messages=question, early_action=True, temperature=0, max_tokens=5).json()
    assert answer["choices"][0]["action"] is None


def test_the_field_is_documented_and_checked(mini: LiveServer) -> None:
    body = mini.http.get("/openapi.json").json()["paths"]["/v1/chat/completions"]["post"]
    fields = body["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert "closing parenthesis" in str(fields["early_action"])
    refused = mini.chat(early_action="yes")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "early_action"
