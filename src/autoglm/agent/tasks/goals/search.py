"""Searching in an app."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.tasks.base import Decision, Goal
from autoglm.agent.tasks.talk import Talk
from autoglm.agent.tasks.view import View

from .apps import app_ending
from .steps import back, enter, fill, finish, tap_word


@dataclass(frozen=True, slots=True)
class SearchIn(Goal):
    """Search for words in an app that has a search box."""

    app: str
    text: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Fill the box, press search; done on the results of these words."""
        step = enter(view, talk, last, self.app)
        if step is not None:
            return step
        if view.title == "ui.results":
            searched = last == talk.about("tap", "ui.search")
            return finish(talk.line("found", self.text)) if searched else back(talk)
        if view.find("search_box") is None:
            return back(talk)
        return fill(view, talk, last, self.text) or tap_word(view, talk, "ui.search")

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when the app is not installed."""
        return app_ending(phone, self.app)

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The results of these words are in front."""
        page = phone.state.page
        return page.app == self.app and page.kind in ("results", "shop_results") and page.arg == self.text
