"""What the speculation benchmark asks: whole tasks on the simulated phone, and repeated and new questions."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from autoglm.agent.actions import Finish
from autoglm.agent.dialogue import Dialogue
from autoglm.agent.grammar import parse_output
from autoglm.agent.repeats import RepeatDetector
from autoglm.agent.tasks.splits import SPLITS
from autoglm.agent.tasks.starts import new_start
from autoglm.errors import ActionParseError, InvalidInputError
from autoglm.messages import ChatMessage, ImagePart, TextPart

_REPEATS = 2
_SPLIT = "held_out_layouts"
_TEXT = "open tap search field value list price button menu home wait screen login photo map order stop next page"
_WORDS = _TEXT.split()


class Episode:
    """One task. Iterate :meth:`screens`; give each answer back with :meth:`answer` before the next."""

    def __init__(self, seed: int, max_steps: int) -> None:
        draw = random.Random(f"speculation/{seed}")
        self._task, self._phone = new_start(draw, SPLITS[_SPLIT], language=("zh", "en")[seed % 2], theme="light")
        self._dialogue = Dialogue(self._task.instruction)
        self._max_steps = max_steps
        self._over = False
        self._screen = b""
        self._repeats = RepeatDetector(_REPEATS, max_period=3)

    def screens(self) -> Iterator[list[ChatMessage]]:
        """The request of each step, until the task ends or the model writes no action."""
        with closing(self._phone):
            for _ in range(self._max_steps):
                screen = self._phone.capture()
                self._dialogue.show(screen)
                self._screen = screen.png
                yield [_message(m) for m in self._dialogue.messages]
                if self._over:
                    return

    def answer(self, text: str) -> None:
        """Do what the model says."""
        try:
            _, action = parse_output(text)
        except ActionParseError:
            self._over = True
            return
        self._dialogue.answer(text)
        # Going in circles would make answers look more predictable than those of tasks that get on.
        self._over = isinstance(action, Finish) or self._repeats.add(self._screen, action) > 0
        try:
            self._phone.perform(action)
        except InvalidInputError:
            return  # cannot be done on this screen: the model sees that nothing changed


def words(seed: int, count: int) -> list[ChatMessage]:
    """A text prompt that no other seed has."""
    draw = random.Random(f"words/{seed}")
    return [ChatMessage("user", " ".join(draw.choice(_WORDS) for _ in range(count)))]


def _message(message: dict[str, Any]) -> ChatMessage:
    content = message["content"]
    if isinstance(content, str):
        return ChatMessage(message["role"], content)
    parts = [
        TextPart(part["text"])
        if part["type"] == "text"
        else ImagePart(base64.b64decode(part["image_url"]["url"].partition(",")[2]))
        for part in content
    ]
    return ChatMessage(message["role"], parts)
