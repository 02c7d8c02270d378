"""Goals about people: call, text, look up, mark as a favourite."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.tasks.base import MISSING, SUCCESS, Decision, Goal
from autoglm.agent.tasks.talk import Talk
from autoglm.agent.tasks.view import View

from .steps import back, enter, fill, find, finish, tap, tap_word


def person_ending(phone: SimulatedPhone, person: str) -> str:
    """Missing when the person is not on this phone."""
    return SUCCESS if person in phone.world.people else MISSING


def reach_contact(view: View, talk: Talk, last: str, person: str) -> Decision | None:
    """Open a person's page in the contacts. None when it (or a call to the person) is in front."""
    step = enter(view, talk, last, "contacts")
    if step is not None:
        return step
    if view.title == f"contact.{person}":
        return None
    if view.title == "app.contacts":
        return find(view, talk, last, "person", f"contact.{person}")
    return back(talk)


@dataclass(frozen=True, slots=True)
class Call(Goal):
    """Call somebody."""

    person: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Open the person's page, tap call."""
        step = reach_contact(view, talk, last, self.person)
        if step is not None:
            return step
        if view.find("note", "ui.calling"):
            return finish(talk.about("calling", f"contact.{self.person}"))
        return tap_word(view, talk, "ui.call")

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when the person is not on this phone."""
        return person_ending(phone, self.person)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The call is going out."""
        return (phone.state.page.kind, phone.state.page.arg) == ("call", self.person)


@dataclass(frozen=True, slots=True)
class OpenContact(Goal):
    """Open somebody's page in the contacts."""

    person: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Find the row, tap it."""
        step = reach_contact(view, talk, last, self.person)
        if step is not None:
            return step
        if view.find("note", "ui.calling"):
            return back(talk)
        return finish(talk.about("opened", f"contact.{self.person}"))

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when the person is not on this phone."""
        return person_ending(phone, self.person)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The page is in front."""
        return (phone.state.page.kind, phone.state.page.arg) == ("contact", self.person)


@dataclass(frozen=True, slots=True)
class Star(Goal):
    """Make somebody a favourite, or no longer."""

    person: str
    on: bool

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Open the person's page, tap the toggle if it is not yet as wanted."""
        step = reach_contact(view, talk, last, self.person)
        if step is not None:
            return step
        element = view.find("toggle", "ui.star")
        if element is None:
            return back(talk)
        if element.state == ("on" if self.on else "off"):
            return finish(talk.about(element.state, "ui.star"))
        return tap(view, element, talk.about("tap", "ui.star"))

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when the person is not on this phone."""
        return person_ending(phone, self.person)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """It is as wanted."""
        return (self.person in phone.state.starred) == self.on


@dataclass(frozen=True, slots=True)
class Text(Goal):
    """Send somebody a text message."""

    person: str
    text: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Open the chat, fill the field, send; done when a bubble of ours is the last one after that."""
        concept = f"contact.{self.person}"
        step = enter(view, talk, last, "messages")
        if step is not None:
            return step
        if view.title == "app.messages":
            return find(view, talk, last, "person", concept)
        if view.title != concept:
            return back(talk)
        newest = view.find("bubble")
        if newest is not None and newest.state == "mine" and last == talk.about("tap", "ui.send"):
            return finish(talk.about("sent", concept))
        return fill(view, talk, last, self.text) or tap_word(view, talk, "ui.send")

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when the person is not on this phone."""
        return person_ending(phone, self.person)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The newest message to the person says it."""
        return (phone.state.chats[self.person] or ((False, ""),))[-1] == (True, self.text)
