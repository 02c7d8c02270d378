"""Goals about apps as such: open one, find its icon, press its one button."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.devices.simulated.catalog import label
from autoglm.agent.tasks.base import MISSING, SUCCESS, TAKE_OVER, Decision, Goal
from autoglm.agent.tasks.talk import Talk
from autoglm.agent.tasks.view import View

from .steps import enter, finish, home, login, missing, settle, swipe, tap, tap_word


def app_ending(phone: SimulatedPhone, app: str) -> str:
    """How a task inside ``app`` must end, as far as the app itself decides it."""
    if app not in phone.world.installed:
        return MISSING
    return TAKE_OVER if app in phone.state.logged_out else SUCCESS


@dataclass(frozen=True, slots=True)
class OpenApp(Goal):
    """Bring an app to the front."""

    app: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Launch it."""
        return enter(view, talk, last, self.app) or finish(talk.about("opened", f"app.{self.app}"))

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when it is not installed."""
        return app_ending(phone, self.app)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The app is in front."""
        return phone.state.page.app == self.app


@dataclass(frozen=True, slots=True)
class TapIcon(Goal):
    """Find an app's icon on the home screen and tap it."""

    app: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Look on the first page, then on the next ones."""
        step = settle(view, talk)
        if step is not None:
            return step
        if view.app == self.app:
            return login(view, talk) or finish(talk.about("opened", f"app.{self.app}"))
        if view.app:
            return home(talk)
        return self._look(view, talk, last)

    def _look(self, view: View, talk: Talk, last: str) -> Decision:
        concept = f"app.{self.app}"
        icon = view.find("icon", concept)
        if icon is not None:
            return tap(view, icon, talk.about("tap", concept))
        dots = view.find("dots")
        page, pages = (dots.state if dots else "1/1").split("/")
        right = talk.about("right", concept)
        if page != "1" and last != right:
            return home(talk)
        if page == pages:
            return missing(talk, label(concept, talk.language))
        return swipe("left", right)

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when it is not installed."""
        return app_ending(phone, self.app)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The app is in front."""
        return phone.state.page.app == self.app


@dataclass(frozen=True, slots=True)
class DoInApp(Goal):
    """Press the one button of a plain app."""

    app: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Open the app, press the button."""
        step = enter(view, talk, last, self.app)
        if step is not None:
            return step
        if view.find("button", "ui.done"):
            return finish(talk.line("done"))
        return tap_word(view, talk, f"do.{self.app}")

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when the app is not installed."""
        return app_ending(phone, self.app)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The button was pressed."""
        return self.app in phone.state.done
