"""Clock and notes: a list, a button that adds, a page with one text field."""

from __future__ import annotations

from autoglm.agent.devices.simulated.catalog import TIMES
from autoglm.agent.devices.simulated.layout import KEYBOARD, LIST_TOP, Effect, Layout
from autoglm.agent.devices.simulated.state import MAX_ALARMS, Page, PhoneState

from .common import BOTTOM, field, keyboard, no_items, top_bar
from .settings import goes

MAX_NOTES = 6


def alarms(layout: Layout, state: PhoneState) -> None:
    """The alarms, each with its toggle; a long press asks whether to delete."""
    top_bar(layout, "app.clock")
    height, top = min(64, layout.world.look.row + 2), LIST_TOP
    for time, on in state.alarms.items():
        layout.add(
            "time_row",
            (0, top, 360, top + height),
            concept=f"time.{time}",
            size=25,
            state="on" if on else "off",
            pad=(24, 84),
            tap=_flips(time),
            hold=_asks(time),
        )
        top += height
    if not state.alarms:
        no_items(layout)
    _add_button(layout, Page("new_alarm", "clock"))


def new_alarm(layout: Layout, state: PhoneState) -> None:
    """A field for the time, and save."""
    _editor(layout, state.page, "ui.new_alarm", "ui.hint_time", _save_alarm)


def notes(layout: Layout, state: PhoneState) -> None:
    """The notes, newest first."""
    top_bar(layout, "app.notes")
    top = LIST_TOP + 2
    for text in state.notes[:MAX_NOTES]:
        layout.add("note", (14, top, 346, top + 64), text=text, size=21, pad=(18, 18), art="note")
        top += 76
    if not state.notes:
        no_items(layout)
    _add_button(layout, Page("new_note", "notes"))


def new_note(layout: Layout, state: PhoneState) -> None:
    """A field for the text, and save."""
    _editor(layout, state.page, "ui.new_note", "ui.hint_text", _save_note)


def _editor(layout: Layout, page: Page, title: str, hint: str, save: Effect) -> None:
    top_bar(layout, title)
    field(layout, "text_field", (16, 104, 344, 160), page, hint)
    lower = layout.height - (KEYBOARD if page.focused else BOTTOM)
    layout.add("button", (24, lower - 66, 336, lower - 12), concept="ui.save", align="center", tap=save)
    keyboard(layout, page)


def _add_button(layout: Layout, page: Page) -> None:
    lower = layout.height - BOTTOM
    layout.add("button", (100, lower - 64, 260, lower - 10), concept="ui.add", align="center", tap=goes(page))


def _flips(time: str) -> Effect:
    def flip(state: PhoneState) -> None:
        state.alarms[time] = not state.alarms[time]

    return flip


def _asks(time: str) -> Effect:
    def ask(state: PhoneState) -> None:
        state.dialog = f"delete.{time}"

    return ask


def _save_alarm(state: PhoneState) -> None:
    """Saves a time ``HH:MM`` of the catalogue; anything else, or one alarm too many, does nothing."""
    time = state.page.text.replace(":", "").zfill(4)
    full = len(state.alarms) >= MAX_ALARMS and time not in state.alarms
    if time in TIMES and not full:
        state.alarms = dict(sorted({**state.alarms, time: True}.items()))
        state.pop()
        state.note("alarm", time)


def _save_note(state: PhoneState) -> None:
    text = state.page.text
    if text:
        state.notes = (text, *state.notes)[:MAX_NOTES]
        state.pop()
        state.note("note", text)
