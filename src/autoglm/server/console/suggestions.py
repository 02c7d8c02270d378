"""Tasks that make sense on a simulated phone, and whether they were done."""

from __future__ import annotations

import random

from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.tasks.base import Task
from autoglm.agent.tasks.splits import SPLITS
from autoglm.agent.tasks.starts import new_task

KINDS = ("toggle.", "choice.", "shop.cart", "alarm.set", "text.send", "shop.buy")
"""One suggestion of each; by the beginning of a template's id."""
_TRIES = 12
_REMEMBERED = 64
_SPLIT = SPLITS["train"]


class Suggestions:
    """Drawn for the state that the phone is in when asked, and remembered, so that their end can be judged."""

    def __init__(self, phone: SimulatedPhone) -> None:
        self._phone = phone
        self._tasks: dict[str, Task] = {}

    def draw(self) -> list[str]:
        """Instructions in the phone's language; the same ones as long as nothing changes on the phone."""
        rng = random.Random(f"suggestions {self._phone.spec.seed} {self._phone.signature()}")
        tasks = [task for kind in KINDS if (task := self._draw(kind, rng)) is not None]
        for task in tasks:
            self._tasks.pop(task.instruction, None)
            self._tasks[task.instruction] = task
        while len(self._tasks) > _REMEMBERED:
            del self._tasks[next(iter(self._tasks))]
        return [task.instruction for task in tasks]

    def task_of(self, instruction: str) -> Task | None:
        """The task behind an instruction of the last sets."""
        return self._tasks.get(instruction)

    def _draw(self, kind: str, rng: random.Random) -> Task | None:
        """A task that is not done yet and is possible on this phone."""
        templates = [t for t in _SPLIT.templates if t.id.startswith(kind)]
        for _ in range(_TRIES):
            task = new_task(rng, self._phone, _SPLIT, rng.choice(templates), cross=0.0)
            if task.goal.ending(self._phone) == "success" and not task.check(self._phone):
                return task
        return None
