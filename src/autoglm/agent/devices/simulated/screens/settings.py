"""The settings app: a list of sections, pages of toggles, pages of choices."""

from __future__ import annotations

from autoglm.agent.devices.simulated.catalog import CHOICE_VALUES, CHOICES
from autoglm.agent.devices.simulated.layout import LIST_TOP, Effect, Layout
from autoglm.agent.devices.simulated.state import Page, PhoneState

from .common import no_items, scrolling_list, top_bar

FACTS = {"storage": ("storage_used",), "about": ("version", "model")}
"""Sections with lines that only inform."""


def goes(page: Page) -> Effect:
    """A tap that opens ``page`` on top."""
    return lambda state: state.push(page)


def settings(layout: Layout, state: PhoneState) -> None:
    """The list of sections."""
    top_bar(layout, "app.settings")

    def row(key: str, box: tuple[float, float, float, float]) -> None:
        page = Page("section", "settings", key)
        layout.add("row", box, concept=f"section.{key}", pad=(62, 40), art=key, tap=goes(page))

    scrolling_list(layout, state.page, list(layout.world.sections), row, height=layout.world.look.row)


def section(layout: Layout, state: PhoneState) -> None:
    """One section: its toggles, then rows that lead to choices."""
    key = state.page.arg
    top_bar(layout, f"section.{key}")
    height, top = layout.world.look.row, float(LIST_TOP)
    for toggle in layout.world.sections[key]:
        shown = "on" if state.toggles[toggle] else "off"
        box = (0, top, 360, top + height)
        layout.add("toggle", box, concept=f"toggle.{toggle}", state=shown, pad=(22, 84), tap=_flips(toggle))
        top += height
    for choice, (_, _, parent) in CHOICES.items():
        if parent == key:
            page = Page("choice", "settings", choice)
            layout.add("row", (0, top, 360, top + height), concept=f"item.{choice}", pad=(22, 40), tap=goes(page))
            top += height
    for fact in FACTS.get(key, ()):
        layout.add("note", (0, top, 360, top + height), concept=f"ui.{fact}", size=21, pad=(22, 120))
        top += height
    if top == LIST_TOP:
        no_items(layout)


def choice(layout: Layout, state: PhoneState) -> None:
    """The values of one choice, the selected one marked."""
    key = state.page.arg
    top_bar(layout, f"item.{key}")
    height, top = layout.world.look.row, LIST_TOP
    for value in CHOICE_VALUES[key]:
        chosen = "selected" if state.choices[key] == value else ""
        box = (0, top, 360, top + height)
        layout.add("choice", box, concept=f"value.{value}", state=chosen, pad=(22, 70), tap=_sets(key, value))
        top += height


def _flips(toggle: str) -> Effect:
    def flip(state: PhoneState) -> None:
        state.toggles[toggle] = not state.toggles[toggle]

    return flip


def _sets(key: str, value: str) -> Effect:
    def choose(state: PhoneState) -> None:
        state.choices[key] = value

    return choose
