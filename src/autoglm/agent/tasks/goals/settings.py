"""Goals in the settings app."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.devices.simulated.catalog import CHOICES, TOGGLES
from autoglm.agent.tasks.base import Decision, Goal
from autoglm.agent.tasks.talk import Talk
from autoglm.agent.tasks.view import View

from .steps import back, enter, find, finish, tap


def reach_section(view: View, talk: Talk, last: str, section: str) -> Decision | None:
    """Open a section of the settings. None when its page is in front."""
    step = enter(view, talk, last, "settings")
    if step is not None:
        return step
    if view.title == f"section.{section}":
        return None
    if view.title == "app.settings":
        return find(view, talk, last, "row", f"section.{section}")
    return back(talk)


@dataclass(frozen=True, slots=True)
class OpenSection(Goal):
    """Open a page of the settings."""

    section: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Find its row and tap it."""
        step = reach_section(view, talk, last, self.section)
        return step or finish(talk.about("opened", f"section.{self.section}"))

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The page is in front."""
        return (phone.state.page.kind, phone.state.page.arg) == ("section", self.section)


@dataclass(frozen=True, slots=True)
class Toggle(Goal):
    """Switch something on or off."""

    toggle: str
    on: bool

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Reach its section, tap it if it is not yet as wanted."""
        step = reach_section(view, talk, last, TOGGLES[self.toggle][2])
        if step is not None:
            return step
        concept = f"toggle.{self.toggle}"
        element = view.find("toggle", concept)
        if element is None:
            return back(talk)
        if element.state == ("on" if self.on else "off"):
            return finish(talk.about(element.state, concept))
        return tap(view, element, talk.about("tap", concept))

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """It is as wanted."""
        return phone.state.toggles[self.toggle] == self.on


@dataclass(frozen=True, slots=True)
class AskToggle(Goal):
    """Say whether something is on."""

    toggle: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Reach its section and read."""
        step = reach_section(view, talk, last, TOGGLES[self.toggle][2])
        if step is not None:
            return step
        concept = f"toggle.{self.toggle}"
        element = view.find("toggle", concept)
        return finish(talk.about(element.state, concept)) if element else back(talk)

    def reached(self, phone: SimulatedPhone, message: str, talk: Talk) -> bool:
        """The answer is right."""
        state = "on" if phone.state.toggles[self.toggle] else "off"
        return message == talk.about(state, f"toggle.{self.toggle}")


@dataclass(frozen=True, slots=True)
class Choose(Goal):
    """Set a choice to a value."""

    choice: str
    value: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Reach the page of the choice, tap the value."""
        item, value = f"item.{self.choice}", f"value.{self.value}"
        if view.title == item and not view.dialog:
            element = view.find("choice", value)
            if element is not None and element.state == "selected":
                return finish(talk.about("set", value))
            return tap(view, element, talk.about("tap", value)) if element else back(talk)
        step = reach_section(view, talk, last, CHOICES[self.choice][2])
        if step is not None:
            return step
        row = view.find("row", item)
        return tap(view, row, talk.about("tap", item)) if row else back(talk)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The value is set."""
        return phone.state.choices[self.choice] == self.value
