"""The actions of the Open-AutoGLM client, as values.

Coordinates are 0..999 from the top-left corner of the screen, whatever its size in pixels; a device multiplies by its
size and divides by 1000.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

Point = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Launch:
    """Open an app by its name."""

    app: str


@dataclass(frozen=True, slots=True)
class Tap:
    """``message`` marks a sensitive tap: a person must confirm it."""

    element: Point
    message: str | None = None


@dataclass(frozen=True, slots=True)
class DoubleTap:
    """Two quick taps at one point."""

    element: Point


@dataclass(frozen=True, slots=True)
class LongPress:
    """Hold at one point."""

    element: Point


@dataclass(frozen=True, slots=True)
class Swipe:
    """Drag from ``start`` to ``end``: content follows the finger."""

    start: Point
    end: Point


@dataclass(frozen=True, slots=True)
class Type:
    """Replace the text of the focused field. ``name`` writes ``Type_Name``, the client's form for a person's name."""

    text: str
    name: bool = False


@dataclass(frozen=True, slots=True)
class Back:
    """The system's back key."""


@dataclass(frozen=True, slots=True)
class Home:
    """The system's home key."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Let the screen settle."""

    seconds: int = 2


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Ask the person to do a step the agent must not or cannot do (log-in, captcha)."""

    message: str


@dataclass(frozen=True, slots=True)
class Interact:
    """Ask the person to choose."""


@dataclass(frozen=True, slots=True)
class Note:
    """Remember the page."""

    message: str = "True"


@dataclass(frozen=True, slots=True)
class CallApi:
    """Summarise or comment on what was noted."""

    instruction: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The task ends; ``message`` tells the person how."""

    message: str


Action = (
    Launch
    | Tap
    | DoubleTap
    | LongPress
    | Swipe
    | Type
    | Back
    | Home
    | Wait
    | TakeOver
    | Interact
    | Note
    | CallApi
    | Finish
)


def format_action(action: Action) -> str:  # noqa: PLR0911 - one spelling a kind of action
    """The client's spelling of ``action``: what a model writes inside ``<answer>``."""
    match action:
        case Finish(message):
            return f"finish(message={_quote(message)})"
        case Tap((x, y), None):
            return f'do(action="Tap", element=[{x},{y}])'
        case Tap((x, y), message) if message is not None:
            return f'do(action="Tap", element=[{x},{y}], message={_quote(message)})'
        case DoubleTap((x, y)):
            return f'do(action="Double Tap", element=[{x},{y}])'
        case LongPress((x, y)):
            return f'do(action="Long Press", element=[{x},{y}])'
        case Swipe((x0, y0), (x1, y1)):
            return f'do(action="Swipe", start=[{x0},{y0}], end=[{x1},{y1}])'
        case Launch(app):
            return f'do(action="Launch", app={_quote(app)})'
        case Type(text, name):
            return f'do(action="{"Type_Name" if name else "Type"}", text={_quote(text)})'
        case Wait(seconds):
            return f'do(action="Wait", duration="{seconds} seconds")'
        case TakeOver(message):
            return f'do(action="Take_over", message={_quote(message)})'
        case Note(message):
            return f'do(action="Note", message={_quote(message)})'
        case CallApi(instruction):
            return f'do(action="Call_API", instruction={_quote(instruction)})'
        case Back() | Home() | Interact():
            return f'do(action="{type(action).__name__}")'
    raise TypeError(f"not an action: {action!r}")


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
