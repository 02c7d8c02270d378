"""Messages: the list of chats, one chat."""

from __future__ import annotations

from dataclasses import replace

from autoglm.agent.devices.simulated.layout import KEYBOARD, Effect, Layout
from autoglm.agent.devices.simulated.state import Page, PhoneState

from .common import BOTTOM, field, keyboard, scrolling_list, top_bar
from .settings import goes

BUBBLE_LINES = 2
BUBBLE_WIDTH = 230


def messages(layout: Layout, state: PhoneState) -> None:
    """The list of chats."""
    top_bar(layout, "app.messages")

    def row(key: str, box: tuple[float, float, float, float]) -> None:
        page = Page("chat", "messages", key)
        layout.add("person", box, concept=f"contact.{key}", pad=(70, 20), art=key, tap=goes(page))

    scrolling_list(layout, state.page, layout.world.chats, row, height=layout.world.look.row + 4)


def chat(layout: Layout, state: PhoneState) -> None:
    """Bubbles from the newest upwards, the text field, the send button, the keyboard."""
    page = state.page
    top_bar(layout, f"contact.{page.arg}")
    lower = layout.height - (KEYBOARD if page.focused else BOTTOM)
    field(layout, "text_field", (8, lower - 54, 258, lower - 6), page, "ui.hint_text")
    box = (264, lower - 54, 354, lower - 6)
    layout.add("button", box, concept="ui.send", size=22, align="center", tap=_send(page.arg))
    _bubbles(layout, state.chats[page.arg], lower - 66)
    keyboard(layout, page)


def _bubbles(layout: Layout, talk: tuple[tuple[bool, str], ...], bottom: float) -> None:
    for mine, text in reversed(talk[-6:]):
        width = min(BUBBLE_WIDTH, layout.width_of(text, 21) + 4)
        lines = 1 if layout.width_of(text, 21) <= BUBBLE_WIDTH else BUBBLE_LINES
        height = 18 + 26 * lines
        top = bottom - height
        if top < 96:
            return
        left = 348 - width - 28 if mine else 12
        layout.add(
            "bubble",
            (left, top, left + width + 28, bottom),
            text=text,
            size=21,
            area=(left + 14, top, left + 16 + width, bottom),
            lines=lines,
            state="mine" if mine else "theirs",
        )
        bottom = top - 12


def _send(person: str) -> Effect:
    def send(state: PhoneState) -> None:
        text = state.page.text
        if text:
            state.chats[person] = (*state.chats[person], (True, text))
            state.change(replace(state.page, text="", focused=False))
            state.note("send", person)

    return send
