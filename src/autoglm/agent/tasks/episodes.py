"""Running a task to its end with any policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoglm.agent.actions import Action, Finish, TakeOver, Tap
from autoglm.agent.devices.simulated import SimulatedPhone

from .base import Task
from .view import View

Policy = Callable[[str, SimulatedPhone, str, str], tuple[str, Action]]
"""``(instruction, phone, current_app, last_think) -> (think, action)``; a model looks only at ``phone.render()``."""
MAX_STEPS = 25


@dataclass(frozen=True, slots=True)
class Episode:
    """How a task went.

    Attributes:
        success: the phone is in the wanted state and the agent ended as it should.
        steps: each think line and action, the last one included.
        confirmed: a sensitive tap was announced; the person is taken to agree.
    """

    success: bool
    steps: tuple[tuple[str, Action], ...]
    confirmed: bool


def run_episode(task: Task, phone: SimulatedPhone, policy: Policy, max_steps: int = MAX_STEPS) -> Episode:
    """Let ``policy`` do ``task`` on ``phone``, which changes, until it ends the task or has had ``max_steps``."""
    steps: list[tuple[str, Action]] = []
    last, confirmed, ending = "", False, None
    while len(steps) < max_steps and ending is None:
        last, action = policy(task.instruction, phone, phone.current_app, last)
        steps.append((last, action))
        if isinstance(action, Finish | TakeOver):
            ending = action
            break
        confirmed = confirmed or (isinstance(action, Tap) and action.message is not None)
        phone.perform(action)
    return Episode(task.judge(phone, ending, confirmed), tuple(steps), confirmed)


def oracle_policy(task: Task) -> Policy:
    """The expert as a policy."""

    def act(_instruction: str, phone: SimulatedPhone, _current_app: str, last_think: str) -> tuple[str, Action]:
        step = task.decide(View(phone), last_think)
        return step.think, step.action

    return act
