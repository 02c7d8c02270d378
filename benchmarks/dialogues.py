"""Phone dialogues against the engine's own loop, over a socket pair as the server speaks to it, in one process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from autoglm.engine import Engine
from autoglm.engine.process import EngineProcess
from autoglm.messages import (
    ChatMessage,
    Event,
    Failed,
    FrameDecoder,
    ImagePart,
    Output,
    SamplingParams,
    Submit,
    TextPart,
    decode_events,
    encode_command,
)
from benchmarks import workload

_WORDS = "open the shop and look for shoes then compare both offers before you go back to the list of apps "


@dataclass(frozen=True, slots=True)
class Script:
    """Sizes of a dialogue. ``system_words``, ``turn_words``: of the texts; ``side``: of a screen in pixels."""

    steps: int = 6
    new_tokens: int = 48
    system_words: int = 400
    turn_words: int = 20
    side: int = 448


@dataclass(slots=True)
class Step:
    """One answer. Seconds from sending the request to its first token, and to its last.

    In CPU time they are what they would be on a free core: the whole process counts, and it never waits.
    """

    ttft: float
    ttft_cpu: float
    seconds: float
    cpu: float
    tokens: list[int]
    cached: int
    prompt: int


@dataclass(slots=True)
class Phone:
    """The Open-AutoGLM client: its newest turn alone shows a screen, and it frames answers once more.

    Attributes:
        private: each request has a salt of its own, so that nothing is shared with any other.
    """

    number: int
    script: Script
    private: bool = False
    messages: list[ChatMessage] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def request(self) -> Submit:
        """The next one."""
        if not self.messages:
            self.messages.append(ChatMessage("system", _text(self.script.system_words, 0)))
        step = len(self.steps)
        screen = workload.screenshot(1000 * self.number + step, self.script.side)
        head = f"task {self.number}: " if step == 0 else "** Screen Info **\n\n"
        text = head + _text(self.script.turn_words, 7 * self.number + step)
        self.messages.append(ChatMessage("user", [ImagePart(screen), TextPart(text)]))
        sampling = SamplingParams(temperature=0.0, max_tokens=self.script.new_tokens, ignore_eos=True)
        name = f"{self.number}/{step}"
        salt = name if self.private else ""
        return Submit(id=name, messages=list(self.messages), sampling=sampling, cache_salt=salt)

    def hear(self, text: str, step: Step) -> None:
        """The answer; random weights speak of no action, so all of it is taken for one, as the client does."""
        last = self.messages[-1].content
        assert not isinstance(last, str)
        self.messages[-1] = ChatMessage("user", [part for part in last if isinstance(part, TextPart)])
        self.messages.append(ChatMessage("assistant", f"<think></think><answer>{text}</answer>"))
        self.steps.append(step)


class Connection:
    """A server's end of the pair; one thread uses it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._decoder = FrameDecoder()
        self._events: list[Event] = []

    def send(self, command: Submit) -> None:
        self._connection.sendall(encode_command(command))

    def events(self) -> list[Event]:
        """What came, at least one."""
        while not self._events:
            data = self._connection.recv(2**18)
            if not data:
                raise RuntimeError("the engine is gone")
            for payload in self._decoder.feed(data):
                self._events += decode_events(payload)
        events, self._events = self._events, []
        for event in events:
            if isinstance(event, Failed):
                raise RuntimeError(f"request {event.id} failed: {event.error.message}")
        return events


@contextmanager
def serving(engine: Engine) -> Iterator[Connection]:
    """The engine's loop in a thread, for as long as the block runs."""
    ours, theirs = socket.socketpair()
    loop = EngineProcess(theirs)
    thread = threading.Thread(target=loop.serve, args=(engine,), name="engine")
    thread.start()
    try:
        yield Connection(ours)
    finally:
        loop.stop()
        thread.join()
        ours.close()
        theirs.close()


def play(
    connection: Connection, phones: list[Phone], think: float = 0.0, watch: Callable[[], None] = lambda: None
) -> float:
    """All phones' dialogues, side by side; a single one waits ``think`` seconds between an answer and its next request.

    Args:
        watch: called whenever something came from the engine.

    Returns the seconds from the first request to the last token.
    """
    if think and len(phones) > 1:
        raise ValueError("only a single phone can take its time")
    begun = time.perf_counter()
    open_: dict[str, tuple[Phone, float, float, Step, list[str]]] = {}

    def ask(phone: Phone) -> None:
        command = phone.request()
        now, cpu = time.perf_counter(), time.process_time()
        open_[command.id] = phone, now, cpu, Step(0.0, 0.0, 0.0, 0.0, [], 0, 0), []
        connection.send(command)

    for phone in phones:
        ask(phone)
    while open_:
        events = connection.events()
        watch()
        for event in events:
            if not isinstance(event, Output):
                continue
            phone, start, cpu, step, texts = open_[event.id]
            if not step.tokens:
                step.ttft, step.ttft_cpu = time.perf_counter() - start, time.process_time() - cpu
            step.tokens += event.token_ids
            texts.append(event.text)
            if event.finish is None:
                continue
            step.seconds, step.cpu = time.perf_counter() - start, time.process_time() - cpu
            step.cached, step.prompt = event.finish.usage.cached_tokens, event.finish.usage.prompt_tokens
            del open_[event.id]
            phone.hear("".join(texts), step)
            if len(phone.steps) < phone.script.steps:
                if think:
                    time.sleep(think)
                ask(phone)
    return time.perf_counter() - begun


def _text(words: int, seed: int) -> str:
    vocabulary = _WORDS.split()
    return " ".join(vocabulary[(seed * 31 + i * i + i // 5) % len(vocabulary)] for i in range(words))
