"""The expert: what to do next on a screen, from what is drawn and the last think line."""

from __future__ import annotations

from autoglm.agent.devices.simulated import SimulatedPhone

from .base import Decision, Task
from .view import View


def oracle(task: Task, phone: SimulatedPhone, last_think: str) -> Decision:
    """The expert's next step of ``task`` on ``phone``.

    It is Markov in what a model can see: the instruction, the drawn elements, the current app's name, and the last
    think line ("" at the start).
    """
    return task.decide(View(phone), last_think)
