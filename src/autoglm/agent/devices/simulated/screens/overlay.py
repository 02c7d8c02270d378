"""Dialogs: they cover the page, and nothing behind them can be tapped."""

from __future__ import annotations

from dataclasses import replace

from autoglm.agent.devices.simulated.elements import Box
from autoglm.agent.devices.simulated.layout import HIDDEN, Effect, Layout, Placed
from autoglm.agent.devices.simulated.state import PhoneState

DIALOGS = {
    "permission": ("deny", "allow"),
    "update": ("later", "update_now"),
    "delete": ("cancel", "delete"),
}
"""dialog -> its (declining, agreeing) buttons."""
TITLES = {"permission": "ui.permission", "update": "ui.update", "delete": "ui.ask_delete"}


def dialog(layout: Layout, state: PhoneState) -> None:
    """Put the open dialog over what ``layout`` holds."""
    kind, _, detail = state.dialog.partition(".")
    top = float(layout.world.look.dialog_top)
    frame = (24.0, top, 336.0, top + 176)
    cover = layout.box(*frame)
    layout.items = [_behind(item, hidden=_overlap(item.element.box, cover)) for item in layout.items]
    layout.add("dialog", frame, concept=TITLES[kind], size=22, area=(44, top + 12, 316, top + 56), layer=1)
    if detail:
        area = (44, top + 58, 316, top + 98)
        layout.add("note", area, concept=f"time.{detail}", size=23, layer=1)
    spots = [(36.0, top + 108, 176.0, top + 164), (184.0, top + 108, 324.0, top + 164)]
    if layout.world.look.dialog_swapped:
        spots.reverse()
    for spot, word in zip(spots, DIALOGS[kind], strict=True):
        tap = _answers(word, detail)
        layout.add("button", spot, concept=f"ui.{word}", size=22, align="center", art="dialog", tap=tap, layer=1)


def _behind(item: Placed, *, hidden: bool) -> Placed:
    element = replace(item.element, target=False)
    return replace(item, element=element, tap=None, hold=None, layer=HIDDEN if hidden else 0)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _answers(word: str, detail: str) -> Effect:
    def answer(state: PhoneState) -> None:
        state.dialog = ""
        state.note("dialog", word)
        if word == "delete":
            state.alarms.pop(detail, None)
            state.note("deleted", detail)

    return answer
