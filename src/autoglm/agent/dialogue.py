"""The conversation with the model, message for message what the Open-AutoGLM client sends.

Source: zai-org/Open-AutoGLM, ``phone_agent/agent.py`` and ``phone_agent/model/client.py``.
"""

from __future__ import annotations

import base64
import datetime
import json
from importlib import resources
from typing import Any, Literal

from autoglm.agent.devices.base import Screenshot
from autoglm.agent.grammar import split_output

Message = dict[str, Any]
Language = Literal["zh", "en"]
_WEEKDAYS = "一二三四五六日"


class Dialogue:
    """System prompt, then turns of one task: screen in, output out. Only the newest turn holds an image.

    Args:
        instruction: what the person wants.
        system_prompt: ``""`` sends none.
    """

    def __init__(self, instruction: str, system_prompt: str = "") -> None:
        self.messages: list[Message] = []
        self._instruction: str | None = instruction
        if system_prompt:
            self.messages.append({"role": "system", "content": system_prompt})

    def show(self, screen: Screenshot) -> None:
        """Add a user turn: the image, then the text."""
        info = json.dumps({"current_app": screen.current_app}, ensure_ascii=False)
        text = f"{self._instruction if self._instruction is not None else '** Screen Info **'}\n\n{info}"
        self._instruction = None
        image = {"type": "image_url", "image_url": {"url": data_url(screen.png)}}
        self.messages.append({"role": "user", "content": [image, {"type": "text", "text": text}]})

    def answer(self, output: str) -> None:
        """Add the model's turn, and drop the image of the user turn before it.

        The client counts everything before the action as thought, tags and all, and wraps it again: so the history
        holds nested tags. Models see that form from every client, so it is kept.

        Args:
            output: text that :func:`autoglm.agent.grammar.parse_output` accepts.
        """
        turn = self.messages[-1]
        turn["content"] = [part for part in turn["content"] if part["type"] == "text"]
        _, start = split_output(output)
        content = f"<think>{output[:start].strip()}</think><answer>{output[start:]}</answer>"
        self.messages.append({"role": "assistant", "content": content})


def data_url(png: bytes) -> str:
    """The image as the client writes it into a message."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def system_prompt(language: Language, today: datetime.date) -> str:
    """The client's own system prompt; its first line is the date, so a server's prefix cache starts anew every day."""
    text = resources.files("autoglm.agent").joinpath("prompts", f"{language}.txt").read_text(encoding="utf-8")
    date = f"{today:%Y-%m-%d, %A}"
    if language == "zh":
        date = f"{today:%Y年%m月%d日} 星期{_WEEKDAYS[today.weekday()]}"
    return text.replace("{date}", date, 1)
