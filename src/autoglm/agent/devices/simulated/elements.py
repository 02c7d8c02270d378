"""What a simulated screen consists of: elements with places, words and states; drawn by the renderer, hit by taps."""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[int, int, int, int]
"""``(left, top, right, bottom)`` in pixels of the phone's screen, right and bottom exclusive."""

KINDS = (
    "icon",
    "row",
    "toggle",
    "choice",
    "person",
    "product",
    "time_row",
    "search_box",
    "text_field",
    "button",
    "pay_button",
    "back",
    "title",
    "note",
    "card",
    "bubble",
    "dialog",
    "keyboard",
    "spinner",
    "banner",
    "scrollbar",
    "dots",
)
"""Every ``Element.kind``."""


@dataclass(frozen=True, slots=True)
class Element:
    """One thing on the screen.

    Attributes:
        kind: of a closed set (``KINDS``): how it is drawn and what it does.
        box: where a tap hits it.
        text: the label as drawn, in the phone's language; "" for none.
        text_box: where the label stands; equals ``box`` where there is no label.
        concept: what the label means, whatever the language (``app.settings``, ``toggle.wlan``, ``contact.alice``,
            ``ui.send``, ``time.0730``); "" for free text. Equal concept and language mean equal text.
        state: "", "on", "off", "focused", "filled", "selected"; "mine" and "theirs" for bubbles; "top", "middle" and
            "bottom" for a scroll bar; "1/2" for the dots of the home screen.
        target: a tap on it does something.
    """

    kind: str
    box: Box
    text: str = ""
    text_box: Box | None = None
    concept: str = ""
    state: str = ""
    target: bool = True
