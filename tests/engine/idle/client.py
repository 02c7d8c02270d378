"""A phone client's dialogues as the engine sees them."""

from __future__ import annotations

from autoglm.messages import ChatMessage, ImagePart, TextPart
from tests.engine.harness import Driver, Result, screen, user

SYSTEM = ChatMessage("system", "You operate a phone, one action at a time. " * 12)
ACTIONS = ('do(action="Back")', 'do(action="Tap", element=[500,300])', 'do(action="Home")', 'finish(message="done")')


class Client:
    """Open-AutoGLM's habits: only the newest turn shows a screen, the answer is wrapped once more.

    Args:
        keep_images: another client, which drops nothing. verbatim: writes the answer back as it came.
    """

    def __init__(self, task: str = "open the shop", *, keep_images: bool = False, verbatim: bool = False) -> None:
        self.messages: list[ChatMessage] = [SYSTEM]
        self.task = task
        self.steps = 0
        self.keep_images = keep_images
        self.verbatim = verbatim

    def show(self, picture: bytes | None = None) -> list[ChatMessage]:
        """The next request."""
        text = f'{self.task}\n\n{{"current_app": "Home"}}' if self.steps == 0 else '** Screen Info **\n\n{"app": "x"}'
        self.messages.append(user(picture or screen(100 + self.steps), text))
        self.steps += 1
        return list(self.messages)

    def hear(self, answer: str) -> None:
        """The answer, and what becomes of the turn it answers."""
        last = self.messages[-1]
        assert not isinstance(last.content, str)
        if not self.keep_images:
            texts = [part for part in last.content if isinstance(part, TextPart)]
            self.messages[-1] = ChatMessage("user", [*texts])
        if not self.verbatim:
            head, found, tail = answer.partition("do(action=")
            thought, action = (head.strip(), found + tail) if found else ("", answer)
            answer = f"<think>{thought}</think><answer>{action}</answer>"
        self.messages.append(ChatMessage("assistant", answer))


def idle(driver: Driver, most: int | None = None) -> int:
    """Let the engine do what it does while nobody asks; how many steps it took."""
    steps = 0
    while steps != most and driver.engine.idle_step():
        steps += 1
    driver.engine.check_integrity()
    return steps


def images_in(messages: list[ChatMessage]) -> int:
    return sum(isinstance(p, ImagePart) for m in messages if not isinstance(m.content, str) for p in m.content)


def step(driver: Driver, client: Client, answer: str | None = None, **options: object) -> Result:
    """One request and what the client makes of the answer; ``answer`` instead of the model's, for the history."""
    result = driver.ask(client.show(), **options)  # type: ignore[arg-type]
    client.hear(result.text if answer is None else answer)
    return result
