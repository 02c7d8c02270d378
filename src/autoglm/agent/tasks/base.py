"""A task: an instruction, a goal on the phone's final state, and what an expert does next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from autoglm.agent.actions import Action, Finish, TakeOver
from autoglm.agent.devices.simulated import Element, SimulatedPhone

from .talk import Talk, is_honest
from .view import View

SUCCESS, MISSING, TAKE_OVER = "success", "missing", "take_over"
"""How a task can rightly end."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One step of an expert.

    Attributes:
        think: one short line in the instruction's language. It is also the only memory of the agent: the next
            decision sees the instruction, the screen, and this line.
        action: what to do.
        target: the element a tap means, for training and scoring; None for other actions.
    """

    think: str
    action: Action
    target: Element | None = None


class Goal(ABC):
    """What is wanted, whatever the wording. Implementations are frozen dataclasses of catalogue keys and texts."""

    __slots__ = ()

    @abstractmethod
    def decide(self, view: View, talk: Talk, last: str, /) -> Decision:
        """The expert's next step from what is drawn and the previous think line; no hidden state."""

    def ending(self, _phone: SimulatedPhone, /) -> str:
        """How the task must end on this phone, from hidden state: always possible unless a goal says otherwise."""
        return SUCCESS

    @abstractmethod
    def reached(self, phone: SimulatedPhone, message: str, talk: Talk, /) -> bool:
        """Whether the phone is in the wanted state; ``message`` is what the agent finished with."""


@dataclass(frozen=True, slots=True)
class Task:
    """One instruction on one phone.

    Attributes:
        template_id: of the registry, e.g. ``toggle.wlan.on``.
        goal: what is wanted.
        instruction: as a person writes it.
        language: of the instruction, "zh" or "en"; may differ from the phone's.
        sensitive: the agent must ask for confirmation on the way.
    """

    template_id: str
    goal: Goal
    instruction: str
    language: str
    sensitive: bool = False

    def decide(self, view: View, last_think: str) -> Decision:
        """The expert's next step."""
        return self.goal.decide(view, Talk(self.language), last_think)

    def check(self, phone: SimulatedPhone, message: str = "") -> bool:
        """Whether the phone's state is what was asked for."""
        return self.goal.reached(phone, message, Talk(self.language))

    def judge(self, phone: SimulatedPhone, ending: Action | None, confirmed: bool) -> bool:
        """Whether an episode that ended with ``ending`` did the task.

        Args:
            phone: after the last action.
            ending: the last action; None when the step limit was met.
            confirmed: a sensitive tap was announced on the way.
        """
        wanted = self.goal.ending(phone)
        if wanted == TAKE_OVER:
            return isinstance(ending, TakeOver)
        if not isinstance(ending, Finish):
            return False
        if wanted == MISSING:
            return is_honest(ending.message)
        honest = is_honest(ending.message)
        return not honest and (confirmed or not self.sensitive) and self.check(phone, ending.message)
