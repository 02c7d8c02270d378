"""The actions of the Open-AutoGLM client, as values.

Coordinates are 0..999 from the top-left corner of the screen, whatever its size in pixels; a device multiplies by its
size and divides by 1000.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

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


_NAMES: dict[type[Action], str] = {
    DoubleTap: "Double Tap",
    LongPress: "Long Press",
    TakeOver: "Take_over",
    CallApi: "Call_API",
    Finish: "finish",
}
"""Where the client's name is not the class's."""


def format_action(action: Action) -> str:
    """The client's spelling of ``action``: what a model writes inside ``<answer>``."""
    name, given = named_arguments(action)
    arguments = [f"{key}={_value(value)}" for key, value in given.items()]
    if isinstance(action, Finish):
        return f"finish({', '.join(arguments)})"
    return f"do({', '.join([f'action={_value(name)}', *arguments])})"


def named_arguments(action: Action) -> tuple[str, dict[str, str | Point]]:
    """The client's name of ``action`` (``finish`` for the end of a task) and its keys and values."""
    if isinstance(action, Wait):
        return "Wait", {"duration": f"{action.seconds} seconds"}
    given = {field.name: getattr(action, field.name) for field in fields(action) if field.name != "name"}
    name = _NAMES.get(type(action), type(action).__name__)
    if isinstance(action, Type) and action.name:
        name = "Type_Name"
    return name, {key: value for key, value in given.items() if value is not None}


def _value(value: str | Point) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
