"""Two goals, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autoglm.agent.actions import Finish, TakeOver
from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.tasks.base import SUCCESS, Decision, Goal
from autoglm.agent.tasks.talk import Talk, is_honest
from autoglm.agent.tasks.view import View

FIRST, SECOND = "1/2 ", "2/2 "
"""Written before every think line: which of the two is being done."""


@dataclass(frozen=True, slots=True)
class Then(Goal):
    """First one goal, then the other."""

    first: Goal
    second: Goal

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """The first until it would finish, then the second; the mark in the think line remembers which."""
        if last.startswith(SECOND):
            return _marked(SECOND, self.second.decide(view, talk, last.removeprefix(SECOND)))
        step = self.first.decide(view, talk, last.removeprefix(FIRST))
        if isinstance(step.action, TakeOver) or (isinstance(step.action, Finish) and is_honest(step.action.message)):
            return _marked(FIRST, step)
        if isinstance(step.action, Finish):
            return _marked(SECOND, self.second.decide(view, talk, ""))
        return _marked(FIRST, step)

    def ending(self, phone: SimulatedPhone) -> str:
        """The first ending that is not a success."""
        first = self.first.ending(phone)
        return first if first != SUCCESS else self.second.ending(phone)

    def reached(self, phone: SimulatedPhone, message: str, talk: Talk) -> bool:
        """Both, or the second where it replaces the first on the screen."""
        return self.second.reached(phone, message, talk) and self._was_first_reached(phone, message, talk)

    def _was_first_reached(self, phone: SimulatedPhone, message: str, talk: Talk) -> bool:
        app = getattr(self.first, "app", "")
        if app:
            return ("open", app) in phone.state.history
        return self.first.reached(phone, message, talk)


def _marked(mark: str, step: Decision) -> Decision:
    return replace(step, think=mark + step.think)
