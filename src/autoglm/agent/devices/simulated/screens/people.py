"""Contacts: the list, one contact, a call."""

from __future__ import annotations

from autoglm.agent.devices.simulated.layout import Effect, Layout
from autoglm.agent.devices.simulated.state import Page, PhoneState

from .common import scrolling_list, top_bar
from .settings import goes


def contacts(layout: Layout, state: PhoneState) -> None:
    """The list of people."""
    top_bar(layout, "app.contacts")

    def row(key: str, box: tuple[float, float, float, float]) -> None:
        page = Page("contact", "contacts", key)
        layout.add("person", box, concept=f"contact.{key}", pad=(70, 20), art=key, tap=goes(page))

    scrolling_list(layout, state.page, layout.world.people, row, height=layout.world.look.row)


def contact(layout: Layout, state: PhoneState) -> None:
    """One person: a picture, call and message buttons, favourite or not."""
    person = state.page.arg
    top_bar(layout, f"contact.{person}")
    layout.add("card", (110, 104, 250, 240), art=f"person.{person}")
    layout.add("button", (24, 270, 174, 322), concept="ui.call", size=22, align="center", tap=_call(person))
    layout.add("button", (186, 270, 336, 322), concept="ui.message", size=22, align="center", tap=_write(person))
    starred = "on" if person in state.starred else "off"
    top, height = 350, layout.world.look.row
    box = (0, top, 360, top + height)
    layout.add("toggle", box, concept="ui.star", state=starred, pad=(22, 84), tap=_star(person))


def call(layout: Layout, state: PhoneState) -> None:
    """A call going out."""
    person = state.page.arg
    layout.add("title", (30, 110, 330, 160), concept=f"contact.{person}", size=28, align="center")
    layout.add("note", (60, 166, 300, 204), concept="ui.calling", size=22, align="center")
    layout.add("card", (100, 230, 260, 390), art=f"person.{person}")
    low = layout.height - 150
    layout.add("button", (105, low, 255, low + 56), concept="ui.hang_up", align="center", art="red", tap=_hang_up)


def _call(person: str) -> Effect:
    def start(state: PhoneState) -> None:
        state.push(Page("call", "contacts", person))
        state.note("call", person)

    return start


def _hang_up(state: PhoneState) -> None:
    state.pop()


def _write(person: str) -> Effect:
    def write(state: PhoneState) -> None:
        state.stack = (Page("home"), Page("messages", "messages"), Page("chat", "messages", person))

    return write


def _star(person: str) -> Effect:
    def star(state: PhoneState) -> None:
        state.starred = state.starred ^ {person}

    return star
