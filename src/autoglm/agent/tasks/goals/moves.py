"""Goals that are one move: back, home, a swipe, a dialog's answer, a banner, naming the page."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.agent.actions import Wait
from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.devices.simulated.catalog import label
from autoglm.agent.devices.simulated.screens import DIALOGS
from autoglm.agent.tasks.base import MISSING, SUCCESS, Decision, Goal
from autoglm.agent.tasks.talk import Talk
from autoglm.agent.tasks.view import View

from .steps import back, finish, home, missing, settle, swipe, tap, tap_word


@dataclass(frozen=True, slots=True)
class GoBack(Goal):
    """Press back once."""

    def decide(self, _view: View, talk: Talk, last: str) -> Decision:
        """Once, whatever is on the screen."""
        return finish(talk.line("done")) if last == talk.line("back") else back(talk)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """Back was the last key."""
        return phone.state.history[-1:] == (("back", ""),)


@dataclass(frozen=True, slots=True)
class GoHome(Goal):
    """Show the home screen."""

    def decide(self, view: View, talk: Talk, _last: str) -> Decision:
        """Press home unless it is there."""
        return home(talk) if view.app else finish(talk.line("done"))

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The home screen is in front."""
        return phone.state.page.kind == "home"


@dataclass(frozen=True, slots=True)
class SwipeOnce(Goal):
    """Swipe once; ``direction`` is the finger's."""

    direction: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Once, on a free screen."""
        if last == talk.line("swipe"):
            return finish(talk.line("done"))
        return settle(view, talk) or swipe(self.direction, talk.line("swipe"))

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The last move was that swipe."""
        return phone.state.history[-1:] == (("swipe", self.direction),)


@dataclass(frozen=True, slots=True)
class Pause(Goal):
    """Wait a moment."""

    def decide(self, _view: View, talk: Talk, last: str) -> Decision:
        """Once."""
        line = talk.line("wait")
        return finish(talk.line("done")) if last == line else Decision(line, Wait())

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """It waited."""
        return ("wait", "") in phone.state.history


@dataclass(frozen=True, slots=True)
class AnswerDialog(Goal):
    """Press a certain button of the open dialog (a word of the catalogue)."""

    word: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Tap it; without such a button say so."""
        concept = f"ui.{self.word}"
        if view.dialog and view.button(concept):
            return tap_word(view, talk, concept)
        if last == talk.about("tap", concept):
            return finish(talk.line("done"))
        return missing(talk, label(concept, talk.language))

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when there was no such dialog."""
        shown = self.word in DIALOGS.get(phone.state.dialog.partition(".")[0], ())
        return SUCCESS if shown or ("dialog", self.word) in phone.state.history else MISSING

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The button was pressed."""
        return ("dialog", self.word) in phone.state.history


@dataclass(frozen=True, slots=True)
class ReadBanner(Goal):
    """Open the message that is announced on the home screen."""

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Tap the banner; without one say so."""
        spot = talk.spot("banner")
        if last == talk.line("tap", spot) and view.app == "messages":
            return finish(talk.line("opened", spot))
        if view.app:
            return home(talk)
        banner = view.find("banner")
        return tap(view, banner, talk.line("tap", spot)) if banner else missing(talk, spot)

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when there was none."""
        return SUCCESS if phone.state.banner or _read(phone) else MISSING

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """Its chat is in front."""
        return _read(phone) and phone.state.page.kind == "chat"


@dataclass(frozen=True, slots=True)
class NamePage(Goal):
    """Say which page is in front."""

    def decide(self, view: View, talk: Talk, _last: str) -> Decision:
        """Read the title."""
        step = settle(view, talk)
        if step is not None:
            return step
        return finish(_page_line(talk, view.title or (f"app.{view.app}" if view.app else "")))

    def reached(self, phone: SimulatedPhone, message: str, talk: Talk) -> bool:
        """The answer is right."""
        view = View(phone)
        return message == _page_line(talk, view.title or (f"app.{view.app}" if view.app else ""))


def _page_line(talk: Talk, concept: str) -> str:
    return talk.about("page", concept) if concept else talk.line("page", talk.spot("home"))


def _read(phone: SimulatedPhone) -> bool:
    return any(kind == "banner" for kind, _ in phone.state.history)
