"""One simulated phone of the console: its screen, its history, and at most one task."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from autoglm.agent.actions import Action
from autoglm.agent.devices.simulated import PhoneSpec, SimulatedPhone
from autoglm.agent.loop import Agent
from autoglm.agent.tasks.base import Task
from autoglm.agent.threads import in_thread
from autoglm.errors import NotFoundError, OverloadedError
from autoglm.server.console.config import ConsoleConfig
from autoglm.server.console.driver import Judge, TaskRun
from autoglm.server.console.journal import Journal
from autoglm.server.console.screen import LiveScreen
from autoglm.server.console.shapes import action_fields
from autoglm.server.console.suggestions import Suggestions
from autoglm.server.problems import ConflictError

MakeAgent = Callable[["PhoneSession", TaskRun], Agent]
MAX_SHOTS = 128


class PhoneSession:
    """Belongs to one event loop; blocking work goes to threads.

    Args:
        make_agent: an agent for this phone, and the run that answers its questions.
    """

    def __init__(self, key: str, spec: PhoneSpec, config: ConsoleConfig, make_agent: MakeAgent) -> None:
        self.id = key
        self.spec = spec
        self.viewers = 0
        self.journal = Journal(config.history)
        self._config = config
        self._make_agent = make_agent
        self._loop = asyncio.get_running_loop()
        phone = SimulatedPhone(spec)
        self.screen = LiveScreen(phone, self._frame_changed)
        self._suggestions = Suggestions(phone)
        self._run: TaskRun | None = None
        self._tasks = 0
        self._shots: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._touched = self._watched = time.monotonic()
        self.journal.new_frame(phone.current_app)
        self._publish()

    @property
    def run(self) -> TaskRun | None:
        """The task in progress."""
        return self._run if self._run is not None and not self._run.done else None

    def fields(self) -> dict[str, Any]:
        """The phone as JSON."""
        run, spec = self.run, self.spec
        return {
            "id": self.id,
            "seed": spec.seed,
            "language": spec.language,
            "theme": spec.theme,
            "width": spec.width,
            "height": spec.height,
            "task": run and {"task": run.number, "instruction": run.instruction, "status": run.status.value},
            "question": run and run.question and run.question.fields(),
        }

    def touch(self) -> None:
        """Somebody uses the phone."""
        self._touched = time.monotonic()

    def idle_seconds(self) -> float:
        """Since it was last used; 0 while it is watched or has a task."""
        return 0.0 if self.viewers or self.run is not None else time.monotonic() - self._touched

    def unwatched_seconds(self) -> float:
        """Since the last viewer left, or the task began."""
        return 0.0 if self.viewers else time.monotonic() - self._watched

    def enter(self) -> None:
        """A viewer came. Raises :class:`OverloadedError`."""
        if self.viewers >= self._config.max_viewers:
            raise OverloadedError(
                f"phone {self.id} has {self.viewers} viewers, which is the limit",
                field="viewers",
                limit=self._config.max_viewers,
                value=self.viewers,
            )
        self.viewers += 1

    def leave(self) -> None:
        """A viewer left."""
        self.viewers -= 1
        self._touched = self._watched = time.monotonic()

    async def input(self, action: Action) -> bool:
        """A person acts; whether the phone saw an effect.

        Raises:
            ConflictError: the agent has the phone.
        """
        run = self.run
        if run is not None and not run.lent:
            raise ConflictError("the agent has the phone; take it over first", field="task", value=run.status.value)
        self.journal.add("input", **action_fields(action))
        return await in_thread(self.screen.perform, action)

    def start(self, instruction: str, pause: float) -> TaskRun:
        """Give the phone a task. Raises :class:`ConflictError` if it has one."""
        if self.run is not None:
            raise ConflictError("the phone has a task already; stop it first", field="task", value=self.run.number)
        self._tasks += 1
        self._watched = time.monotonic()
        run = TaskRun(self._tasks, instruction, pause, self.journal, self._publish, self._judge_of(instruction))
        self._run = run
        run.start(self._make_agent(self, run), self._keep_shot)
        self._publish()
        return run

    def needs_run(self) -> TaskRun:
        """The task in progress. Raises :class:`ConflictError` if there is none."""
        if self.run is None:
            raise ConflictError("the phone has no task", field="task")
        return self.run

    def shot(self, task: int, step: int) -> bytes:
        """The PNG that the model saw. Raises :class:`NotFoundError` if it is not kept (any more)."""
        if (task, step) not in self._shots:
            raise NotFoundError(f"the screen of task {task}, step {step} is not kept", field="step", value=step)
        return self._shots[task, step]

    async def close(self, reason: str) -> None:
        """End the task and every viewer's stream."""
        if self._run is not None:
            await self._run.stop()
        self.journal.close(reason)
        await in_thread(self.screen.close)

    def task_of(self, instruction: str) -> Task | None:
        """What a suggested instruction means."""
        return self._suggestions.task_of(instruction)

    async def suggest(self) -> list[str]:
        """Tasks for the state that the phone is in now; whether one of them was done will be known."""
        return await in_thread(self.screen.inspect, lambda _: self._suggestions.draw())

    def _judge_of(self, instruction: str) -> Judge | None:
        task = self.task_of(instruction)
        if task is None:
            return None

        async def judge(ending: Action | None, confirmed: bool) -> bool:
            return await in_thread(self.screen.inspect, lambda phone: task.judge(phone, ending, confirmed))

        return judge

    def _keep_shot(self, task: int, step: int, png: bytes) -> None:
        self._shots[task, step] = png
        while len(self._shots) > MAX_SHOTS:
            self._shots.popitem(last=False)

    def _publish(self) -> None:
        self.journal.set_state(self.fields())

    def _frame_changed(self, app: str) -> None:
        """Called in the thread that acted."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.journal.new_frame, app)
