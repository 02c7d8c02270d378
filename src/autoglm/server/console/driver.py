"""One task on one phone: the agent's events written into the journal, and what people may do to the run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from autoglm.agent.actions import Action, Interact, TakeOver, Tap
from autoglm.agent.events import (
    Acted,
    Answered,
    ConfirmationNeeded,
    Decided,
    Ended,
    Event,
    Outcome,
    OutputRejected,
    StepStarted,
    StepTimed,
    TakeOverNeeded,
    ThoughtDelta,
)
from autoglm.agent.loop import Agent
from autoglm.server.console.journal import Journal, Thought
from autoglm.server.console.shapes import action_fields
from autoglm.server.problems import ConflictError

log = logging.getLogger(__name__)


class Status(StrEnum):
    """Where a task stands, for its viewers."""

    RUNNING = "running"
    ASKING = "asking"
    PAUSING = "pausing"
    """A person takes over as soon as the step is complete."""
    PAUSED = "paused"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Question:
    """What the agent waits for. ``kind``: ``confirm`` a sensitive tap, or ``take_over`` the phone."""

    number: int
    kind: str
    message: str
    seconds: float

    def fields(self) -> dict[str, Any]:
        """As JSON."""
        return {"question": self.number, "kind": self.kind, "message": self.message, "seconds": self.seconds}


Judge = Callable[[Action | None, bool], Awaitable[bool]]


class TaskRun:
    """Runs from :meth:`start` on until it ends by itself, or is stopped.

    Args:
        number: of the task on its phone, from 1.
        pause: seconds between a decision and its action, for people to follow.
        changed: told when :attr:`status` or :attr:`question` change, and at the end.
        judge: asked at the end, with the last action and whether a person confirmed one, if the phone is where the
            task wants it; ``None``: nobody knows.
    """

    def __init__(
        self,
        number: int,
        instruction: str,
        pause: float,
        journal: Journal,
        changed: Callable[[], None],
        judge: Judge | None,
    ) -> None:
        self.number = number
        self.instruction = instruction
        self.status = Status.RUNNING
        self.question: Question | None = None
        self._pause = pause
        self._journal = journal
        self._changed = changed
        self._judge = judge
        self._last: Action | None = None
        self._confirmed = False
        self._answer: asyncio.Future[bool] | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._task: asyncio.Task[None] | None = None
        self._over = False
        self._questions = 0
        self._step = 0

    @property
    def done(self) -> bool:
        """The task has ended."""
        return self._over

    @property
    def lent(self) -> bool:
        """The phone is a person's at the moment."""
        asked = self.question is not None and self.question.kind == "take_over"
        return asked or self.status is Status.PAUSED

    def start(self, agent: Agent, keep_shot: Callable[[int, int, bytes], None]) -> None:
        """Begin. ``keep_shot`` gets task, step and picture of every screen the model looked at."""
        self._task = asyncio.create_task(self._run(agent, keep_shot), name=f"task {self.number}")

    async def confirm(self, _: Tap | TakeOver | Interact) -> bool:
        """The agent's question to a person; :meth:`answer` answers it."""
        assert self._answer is not None
        return await self._answer

    def answer(self, question: int, allow: bool) -> None:
        """A person's answer. Raises :class:`ConflictError` if that is not what is asked now."""
        if self.question is None or self.question.number != question or self._answer is None or self._answer.done():
            raise ConflictError(f"question {question} is not open", field="question", value=question)
        self._answer.set_result(allow)

    def take_over(self) -> None:
        """A person wants the phone: the agent pauses after this step."""
        if self.status is not Status.RUNNING:
            raise ConflictError(f"the task is {self.status.value}", field="task", value=self.status.value)
        self._free.clear()
        self._set(Status.PAUSING)

    def resume(self) -> None:
        """The person is done: the agent looks at the screen again."""
        if self.status not in (Status.PAUSING, Status.PAUSED):
            raise ConflictError(f"the task is {self.status.value}", field="task", value=self.status.value)
        self._free.set()
        self._set(Status.RUNNING)

    async def stop(self) -> None:
        """End it now, and wait until it has let go of the phone."""
        if self._task is None or self._over:
            return
        self._set(Status.STOPPING)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({self._task})

    async def _run(self, agent: Agent, keep_shot: Callable[[int, int, bytes], None]) -> None:
        started = time.monotonic()
        self._journal.add("task", task=self.number, instruction=self.instruction)
        end = Ended(Outcome.CANCELLED, "the task was stopped", 0)
        reached: bool | None = None
        try:
            async with aclosing(agent.run(self.instruction)) as events:
                end = await self._follow(agent, events, keep_shot) or end
            if self._judge is not None:
                reached = await self._judge(self._last, self._confirmed)
        except Exception:
            end = Ended(Outcome.DEVICE_ERROR, "internal error; the server's log has the details", self._step)
            log.exception("task %d broke", self.number)
        finally:
            await agent.model.close()
            self.question = self._answer = None
            self._journal.add(
                "ended",
                task=self.number,
                outcome=end.outcome.value,
                message=end.message,
                steps=self._step,
                seconds=time.monotonic() - started,
                reached=reached,
            )
            self._over = True
            self._changed()

    async def _follow(
        self, agent: Agent, events: AsyncGenerator[Event, None], keep_shot: Callable[[int, int, bytes], None]
    ) -> Ended | None:
        async for event in events:
            if isinstance(event, Ended):
                return event
            if isinstance(event, StepStarted):
                keep_shot(self.number, event.step, event.screenshot.png)
            self._publish(event)
            if isinstance(event, Decided) and self._pause:
                await asyncio.sleep(self._pause)
            if isinstance(event, StepTimed) and not self._free.is_set():
                self._set(Status.PAUSED)
                await self._free.wait()
                await agent.forget()  # a person may have done anything
        return None

    def _publish(self, event: Event) -> None:
        """Write one event into the journal."""
        note = self._note
        match event:
            case StepStarted(step):
                self._step = step
                self._journal.set_thought(Thought(self.number, step))
                note("step", step)
            case ThoughtDelta(step, text):
                last = self._journal.thought
                self._journal.set_thought(Thought(self.number, step, last.text + text))
            case OutputRejected(step, output, reason, retrying):
                self._journal.set_thought(Thought(self.number, step))
                note("rejected", step, output=output[:1000], reason=reason, retrying=retrying)
            case Decided(step, think, action):
                self._last = action
                self._journal.set_thought(Thought(self.number, step, think))
                note("decided", step, think=think, **action_fields(action))
            case ConfirmationNeeded(step, _, message, seconds):
                self._ask(step, "confirm", message, seconds)
            case TakeOverNeeded(step, _, message, seconds):
                self._ask(step, "take_over", message, seconds)
            case Answered(step, granted):
                self._confirmed = self._confirmed or (granted is True and isinstance(self._last, Tap))
                self.question = self._answer = None
                note("answered", step, granted=granted)
                self._set(Status.RUNNING if self._free.is_set() else Status.PAUSING)
            case Acted(step, _, changed, text):
                note("acted", step, changed=changed, note=text)
            case StepTimed(step, waterfall, usage):
                fall = asdict(waterfall) | {"to_action": waterfall.to_action, "total": waterfall.total}
                note("timed", step, ms=fall, usage=asdict(usage))

    def _note(self, kind: str, step: int, **fields: Any) -> None:
        self._journal.add(kind, task=self.number, step=step, **fields)

    def _ask(self, step: int, kind: str, message: str, seconds: float) -> None:
        self._questions += 1
        self.question = Question(self._questions, kind, message, seconds)
        self._answer = asyncio.get_running_loop().create_future()
        self._note("asked", step, question=self.question.fields())
        self._set(Status.ASKING)

    def _set(self, status: Status) -> None:
        self.status = status
        self._changed()
