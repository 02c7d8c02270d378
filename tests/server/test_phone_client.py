"""The Open-AutoGLM client's own requests, through the SDK it uses, and each way a server can break it."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image

from tests.server.harness import MODEL, LiveServer, chat_body, data_url, image_message, png

SYSTEM = "今天的日期是星期一。你是一个操作手机的助手，每一步输出一个动作。" * 12
SAMPLING: dict[str, Any] = {"temperature": 0.0, "top_p": 0.85, "frequency_penalty": 0.2}


def stop_bias(server: LiveServer, index: int = -1) -> dict[str, int]:
    """A bias that makes stop token ``index`` (the last one is ``</answer>``) the only choice."""
    return {str(server.health()["model"]["stop_token_ids"][index]): 100}


def user_turn(step: int) -> dict[str, Any]:
    """Image, then text, as the client builds it: full resolution, RGBA."""
    app = json.dumps({"current_app": f"app {step}"})
    text = f"打开京东\n\n{app}" if step == 0 else f"** Screen Info **\n\n{app}"
    image = {"type": "image_url", "image_url": {"url": data_url(png(280, 140, channels=4, seed=step))}}
    return {"role": "user", "content": [image, {"type": "text", "text": text}]}


def test_start_up_probe(server: LiveServer) -> None:
    answer = server.openai.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=5, temperature=0.0, stream=False
    )
    assert len(answer.choices) == 1
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens <= 5


def test_six_step_dialogue(server: LiveServer) -> None:
    messages: list[Any] = [{"role": "system", "content": SYSTEM}]
    cached: list[int] = []
    for step in range(6):
        messages.append(user_turn(step))
        # 3000 tokens are asked for; a stop that comes soon keeps the test short.
        stream = server.openai.chat.completions.create(
            model=MODEL,
            messages=messages,
            max_tokens=3000,
            stream=True,
            stop=list("aeiou"),
            stream_options={"include_usage": True},
            **SAMPLING,
        )
        text, roles, reasons = "", [], []
        for chunk in stream:
            if chunk.usage is not None:
                details = chunk.usage.prompt_tokens_details
                assert details is not None
                cached.append(details.cached_tokens or 0)
            if not chunk.choices:
                continue
            roles.append(chunk.choices[0].delta.role)
            text += chunk.choices[0].delta.content or ""
            reasons.append(chunk.choices[0].finish_reason)
        assert roles[0] == "assistant"
        assert reasons[-1] in ("stop", "length")
        # What the client does between steps: the old image goes, the reply is wrapped once more.
        messages[-1]["content"] = [part for part in messages[-1]["content"] if part["type"] == "text"]
        messages.append({"role": "assistant", "content": f'<think>{text}</think><answer>do(action="Back")</answer>'})
    assert len(cached) == 6
    assert all(later > earlier for earlier, later in pairwise(cached)), cached


def test_answer_end_tag_is_a_stop_and_never_text(server: LiveServer) -> None:
    answer = server.chat(logit_bias=stop_bias(server), max_tokens=8).json()
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == ""
    assert answer["usage"]["completion_tokens"] == 1
    kept = server.chat(logit_bias=stop_bias(server), max_tokens=8, include_stop_str_in_output=True).json()
    assert kept["choices"][0]["message"]["content"] == "</answer>"  # the right token was forced


def test_thinking_stays_in_content(server: LiveServer) -> None:
    model = server.health()["model"]
    end_tag = max(model["stop_token_ids"])
    think = end_tag - 3  # <think>, </think>, <answer>, </answer> are neighbours
    answer = server.chat(logit_bias={str(think): 100}, max_tokens=2).json()["choices"][0]["message"]
    assert answer["content"] == "<think><think>"
    assert "reasoning_content" not in answer


def test_max_tokens_beyond_the_context_is_clamped(server: LiveServer) -> None:
    answer = server.chat(max_tokens=10**9, logit_bias=stop_bias(server))
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["finish_reason"] == "stop"


def test_frequency_penalty_changes_the_greedy_answer(server: LiveServer) -> None:
    plain, penalised = (
        server.chat(max_tokens=40, frequency_penalty=value).json()["choices"][0]["message"]["content"]
        for value in (0, 2)
    )
    assert plain != penalised


@pytest.mark.parametrize("content", ["a plain string", [{"type": "text", "text": "one part"}]])
def test_text_only_content(server: LiveServer, content: Any) -> None:
    answer = server.chat(messages=[{"role": "user", "content": content}])
    assert answer.status_code == 200


def test_one_text_part_equals_the_plain_string(server: LiveServer) -> None:
    contents: list[Any] = ["the same", [{"type": "text", "text": "the same"}]]
    first, second = (server.chat(messages=[{"role": "user", "content": c}]).json() for c in contents)
    assert first["choices"] == second["choices"]
    assert first["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"]


def test_opaque_rgba_equals_rgb(server: LiveServer) -> None:
    rgb = png(seed=9)
    out = BytesIO()
    Image.open(BytesIO(rgb)).convert("RGBA").save(out, "PNG")
    fields: dict[str, Any] = {"max_tokens": 6, "logprobs": True}
    one, other = (server.chat(messages=image_message(data_url(d)), **fields).json() for d in (rgb, out.getvalue()))
    assert one["choices"][0]["message"] == other["choices"][0]["message"]
    values = [[t["logprob"] for t in a["choices"][0]["logprobs"]["content"]] for a in (one, other)]
    assert values[0] == pytest.approx(values[1], abs=1e-4)
    assert one["usage"]["prompt_tokens_details"]["image_tokens"] == 15  # 140 x 84 pixels in tiles of 28


def test_lines_on_the_wire(server: LiveServer) -> None:
    with server.http.stream("POST", "/v1/chat/completions", json=chat_body(stream=True)) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        text = "".join(response.iter_text())
    events = text.split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    assert events.pop() == "data: [DONE]"
    first = json.loads(events[0].removeprefix("data: "))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert json.loads(events[-1].removeprefix("data: "))["choices"][0]["finish_reason"] in ("stop", "length")
    assert all("usage" not in json.loads(e.removeprefix("data: ")) for e in events)


def test_a_body_over_six_megabytes(server: LiveServer) -> None:
    padded = png() + bytes(6 * 2**20)  # decoders stop at the end of the image
    assert len(base64.b64encode(padded)) > 6 * 2**20
    assert server.chat(messages=image_message(data_url(padded))).status_code == 200
