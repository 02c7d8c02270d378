"""Goals in the clock and in the notes."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.devices.simulated.catalog import time_text
from autoglm.agent.tasks.base import MISSING, SUCCESS, Decision, Goal
from autoglm.agent.tasks.talk import Talk
from autoglm.agent.tasks.view import View

from .steps import back, enter, fill, finish, hold, missing, tap, tap_word


@dataclass(frozen=True, slots=True)
class SetAlarm(Goal):
    """Have an alarm ring at a time (``HHMM``)."""

    time: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Switch an alarm of that time on, or make a new one."""
        step = enter(view, talk, last, "clock")
        if step is not None:
            return step
        concept = f"time.{self.time}"
        if view.title == "app.clock":
            row = view.find("time_row", concept)
            if row is None:
                return tap_word(view, talk, "ui.add")
            return (
                finish(talk.about("on", concept)) if row.state == "on" else tap(view, row, talk.about("tap", concept))
            )
        if view.title != "ui.new_alarm":
            return back(talk)
        return fill(view, talk, last, time_text(self.time)) or tap_word(view, talk, "ui.save")

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """It is there and on."""
        return phone.state.alarms.get(self.time, False)


@dataclass(frozen=True, slots=True)
class SwitchAlarm(Goal):
    """Switch an alarm that exists on or off."""

    time: str
    on: bool

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Tap its row if it is not yet as wanted."""
        step = enter(view, talk, last, "clock")
        if step is not None:
            return step
        concept = f"time.{self.time}"
        if view.title != "app.clock":
            return back(talk)
        row = view.find("time_row", concept)
        if row is None:
            return missing(talk, time_text(self.time))
        if row.state == ("on" if self.on else "off"):
            return finish(talk.about(row.state, concept))
        return tap(view, row, talk.about("tap", concept))

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when there is no such alarm."""
        return SUCCESS if self.time in phone.state.alarms else MISSING

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """It is as wanted."""
        return phone.state.alarms.get(self.time) == self.on


@dataclass(frozen=True, slots=True)
class DeleteAlarm(Goal):
    """Delete an alarm."""

    time: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Press its row long, confirm."""
        concept = f"time.{self.time}"
        if view.dialog == "ui.ask_delete" and view.find("note", concept):
            return tap_word(view, talk, "ui.delete")
        step = enter(view, talk, last, "clock")
        if step is not None:
            return step
        if view.title != "app.clock":
            return back(talk)
        row = view.find("time_row", concept)
        if row is not None:
            return hold(view, row, talk.about("hold", concept))
        if last == talk.about("tap", "ui.delete"):
            return finish(talk.about("deleted", concept))
        return missing(talk, time_text(self.time))

    def ending(self, phone: SimulatedPhone) -> str:
        """Missing when there never was such an alarm."""
        known = self.time in phone.state.alarms or ("deleted", self.time) in phone.state.history
        return SUCCESS if known else MISSING

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """It is gone."""
        return self.time not in phone.state.alarms


@dataclass(frozen=True, slots=True)
class WriteNote(Goal):
    """Write a note."""

    text: str

    def decide(self, view: View, talk: Talk, last: str) -> Decision:
        """Add, fill the field, save; done when the list is back after that."""
        step = enter(view, talk, last, "notes")
        if step is not None:
            return step
        if view.title == "app.notes":
            if last == talk.about("tap", "ui.save"):
                return finish(talk.line("saved", self.text))
            return tap_word(view, talk, "ui.add")
        if view.title != "ui.new_note":
            return back(talk)
        return fill(view, talk, last, self.text) or tap_word(view, talk, "ui.save")

    def reached(self, phone: SimulatedPhone, _message: str, _talk: Talk) -> bool:
        """The newest note says it."""
        return phone.state.notes[:1] == (self.text,)
