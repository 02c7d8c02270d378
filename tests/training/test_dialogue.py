"""The chat template writes what the training sees, from the client's real messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoglm.agent.actions import Back, format_action
from autoglm.agent.devices.base import Screenshot
from autoglm.agent.dialogue import Dialogue
from autoglm.prompt import ChatTemplate, Tokenizer
from training.dialogue import CHAT_TEMPLATE, GRAMMAR, answer_text, prompt_text, train_tokenizer, write_prompt_files

SCREEN = Screenshot(b"", 1, 1, "System Home")


def rendered(dialogue: Dialogue) -> str:
    """As the server renders: image parts become placeholders."""
    messages = []
    for message in dialogue.messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [{"type": "image"} if part["type"] == "image_url" else part for part in content]
        messages.append({"role": message["role"], "content": content})
    return ChatTemplate(CHAT_TEMPLATE).render(messages)


@pytest.mark.parametrize("system", ["", "今天的日期是: 2026-01-01\n你是一个智能体"])
def test_steps_of_the_real_client(system: str) -> None:
    dialogue = Dialogue("打开设置，连接 WLAN", system)
    dialogue.show(SCREEN)
    assert rendered(dialogue) == prompt_text("打开设置，连接 WLAN", "System Home", "")
    for think in ("打开 设置", "点击 WLAN"):
        dialogue.answer(answer_text(think, format_action(Back())).removesuffix("</answer>"))
        dialogue.show(SCREEN)
        assert rendered(dialogue) == prompt_text("打开设置，连接 WLAN", "System Home", think)


def test_the_clients_probe_renders() -> None:
    text = ChatTemplate(CHAT_TEMPLATE).render([{"role": "user", "content": "Hi"}])
    assert text == "<|system|>Hi<|user|>\n<|assistant|>"


def test_words_are_the_same_tokens_wherever_they_stand(tmp_path: Path) -> None:
    text = 'Tell Alice I am late\n<think>Type I am late</think>\n<answer>do(action="Type", text="I am late")</answer>'
    write_prompt_files(tmp_path, train_tokenizer([text] * 3, 512))
    tokenizer = Tokenizer.from_directory(tmp_path)
    words = tokenizer.encode("I am late")
    whole = tokenizer.encode(text)
    places = [i for i in range(len(whole)) if whole[i : i + len(words)] == words]
    assert len(places) == 3
    assert tokenizer.decode(whole) == text
    assert all(len(tokenizer.encode(piece)) == 1 for piece in GRAMMAR)
