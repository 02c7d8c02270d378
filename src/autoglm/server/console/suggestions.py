"""Tasks that make sense on a simulated phone, and whether they were done."""

from __future__ import annotations

import random

from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.tasks.base import Task
from autoglm.agent.tasks.splits import SPLITS
from autoglm.agent.tasks.starts import new_task

KINDS = ("toggle.", "alarm.set", "text.send", "shop.cart", "choice.", "shop.buy", "search.", "do.")
"""One suggestion of each; by the beginning of a template's id."""
_TRIES = 12
_SPLIT = SPLITS["train"]


class Suggestions:
    """Drawn by the phone's seed for the state it is in when asked; remembered, so that their end can be judged."""

    def __init__(self, phone: SimulatedPhone) -> None:
        self._phone = phone
        self._rng = random.Random(f"suggestions {phone.spec.seed}")
        self._tasks: dict[str, Task] = {}

    def draw(self) -> list[str]:
        """A new set of instructions in the phone's language; the old ones are forgotten."""
        tasks = [task for kind in KINDS if (task := self._draw(kind)) is not None]
        self._tasks = {task.instruction: task for task in tasks}
        return list(self._tasks)

    def task_of(self, instruction: str) -> Task | None:
        """The task behind an instruction of the newest set."""
        return self._tasks.get(instruction)

    def _draw(self, kind: str) -> Task | None:
        """A task that is not done yet and is possible on this phone."""
        templates = [t for t in _SPLIT.templates if t.id.startswith(kind)]
        for _ in range(_TRIES):
            task = new_task(self._rng, self._phone, _SPLIT, self._rng.choice(templates), cross=0.0)
            if task.goal.ending(self._phone) == "success" and not task.check(self._phone):
                return task
        return None
