"""Parts that many screens share: the top bar, scrolling lists, text fields with a keyboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from autoglm.agent.devices.simulated.layout import BAR_BOTTOM, BAR_TOP, KEYBOARD, LIST_TOP, Layout
from autoglm.agent.devices.simulated.state import Page, PhoneState

BOTTOM = 14
"""dp kept free at the lower edge (the gesture bar)."""


def go_back(state: PhoneState) -> None:
    """What the back key does: closes a dialog, then a keyboard, then the page."""
    if state.dialog:
        state.dialog = ""
    elif state.page.focused:
        state.change(replace(state.page, focused=False))
    else:
        state.pop()


def top_bar(layout: Layout, concept: str) -> None:
    """A back arrow and a title."""
    layout.add("back", (0, BAR_TOP, 54, BAR_BOTTOM), tap=go_back)
    layout.add("title", (58, BAR_TOP, 346, BAR_BOTTOM), concept=concept, size=25)


def focus(state: PhoneState) -> None:
    """A tap into the page's text field."""
    state.change(replace(state.page, focused=True))


def keyboard(layout: Layout, page: Page) -> None:
    """The keyboard, while a field has the focus."""
    if page.focused:
        layout.add("keyboard", (0, layout.height - KEYBOARD, 360, layout.height))


def field_state(page: Page) -> str:
    """The state of the page's field: "focused" before "filled"."""
    return "focused" if page.focused else "filled" if page.text else ""


def field(layout: Layout, kind: str, box: tuple[float, float, float, float], page: Page, hint: str) -> None:
    """The page's text field: what was typed, or a hint."""
    pad = (44 if kind == "search_box" else 16, 12)
    shown = {"text": page.text} if page.text else {"concept": hint}
    layout.add(kind, box, size=21, pad=pad, state=field_state(page), tap=focus, **shown)  # type: ignore[arg-type]


def scrolling_list(
    layout: Layout,
    page: Page,
    keys: Sequence[str],
    row: Callable[[str, tuple[float, float, float, float]], None],
    *,
    height: float,
    top: float = LIST_TOP,
) -> None:
    """Rows from the page's scroll position on; a long list gets a scroll bar and, at its end, a last line."""
    capacity, last = capacity_of(layout, page, len(keys), height, top)
    scroll = min(page.scroll, last)
    right = 360.0 if last == 0 else 350.0
    shown = keys[scroll : scroll + capacity]
    if scroll == last and last:
        shown = keys[scroll:]
    for index, key in enumerate(shown):
        row(key, (0, top + index * height, right, top + (index + 1) * height))
    if not last:
        return
    where = "top" if scroll == 0 else "bottom" if scroll == last else "middle"
    lower = layout.height - (KEYBOARD if page.focused else 0) - 6
    layout.add("scrollbar", (351, top, 359, lower), state=where, art=f"{scroll}/{last}/{capacity}")
    if where == "bottom":
        start = top + len(shown) * height
        layout.add("note", (0, start, 350, start + min(height, 44)), concept="ui.end", size=20, align="center")


def capacity_of(layout: Layout, page: Page, count: int, height: float, top: float) -> tuple[int, int]:
    """Rows that fit, and the last scroll position (0: the list does not scroll)."""
    lower = layout.height - (KEYBOARD if page.focused else BOTTOM)
    capacity = max(1, int((lower - top) // height))
    return capacity, 0 if count <= capacity else count - (capacity - 1)


def no_items(layout: Layout) -> None:
    """What an empty page says."""
    layout.add("note", (60, 200, 300, 244), concept="ui.no_items", size=20, align="center")
