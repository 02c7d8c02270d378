"""The agent's actions as the page gets them."""

from __future__ import annotations

from typing import Any

from autoglm.agent.actions import Action, DoubleTap, LongPress, Swipe, Tap, format_action

_KINDS = {Tap: "tap", DoubleTap: "double_tap", LongPress: "long_press", Swipe: "swipe"}


def action_fields(action: Action) -> dict[str, Any]:
    """``action``: its name; ``written``: as the model writes it; ``gesture`` and ``points`` if it touches the screen;
    ``words``: an app, a text, a message, or nothing.
    """
    points: list[list[int]] = []
    match action:
        case Tap(point) | DoubleTap(point) | LongPress(point):
            points = [list(point)]
        case Swipe(start, end):
            points = [list(start), list(end)]
    words = (getattr(action, name, None) for name in ("app", "text", "message", "instruction"))
    return {
        "action": type(action).__name__,
        "written": format_action(action),
        "gesture": _KINDS.get(type(action)),
        "points": points,
        "words": next((text for text in words if text is not None), ""),
    }
