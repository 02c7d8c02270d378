"""What counts as right: one step beside the expert's, and shares with their confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoglm.agent.actions import Action, Finish, Launch, LongPress, Swipe, Tap, Type
from autoglm.agent.devices.simulated import Element, SimulatedPhone
from autoglm.agent.devices.simulated.catalog import app_named
from autoglm.agent.tasks.talk import is_honest

_Z = 1.96


def same_step(phone: SimulatedPhone, wanted: Action, target: Element | None, found: Action) -> bool:
    """Whether ``found`` does what the expert would do: the same kind of action, a tap inside the expert's element,
    a swipe in the same direction, the same text, app or kind of ending."""
    same = type(wanted) is type(found)
    match wanted, found:
        case (Tap(), Tap()) | (LongPress(), LongPress()):
            assert target is not None
            assert isinstance(found, Tap | LongPress)  # for the type checker: it forgets the alternatives
            same = _announced(wanted) == _announced(found) and inside(phone, target, found.element)
        case Swipe(), Swipe():
            same = _direction(wanted) == _direction(found)
        case Type(text), Type(typed):
            same = text == typed
        case Launch(app), Launch(started):
            same = app_named(app) == app_named(started)
        case Finish(message), Finish(said):
            same = is_honest(message) == is_honest(said)
    return same


def _announced(action: Action) -> bool:
    return isinstance(action, Tap) and action.message is not None


def inside(phone: SimulatedPhone, target: Element, point: tuple[int, int]) -> bool:
    """Whether a tap at ``point`` (0..999) hits the element, by the device's own arithmetic."""
    x, y = point[0] * phone.spec.width // 1000, point[1] * phone.spec.height // 1000
    left, top, right, bottom = target.box
    return left <= x < right and top <= y < bottom


def _direction(move: Swipe) -> tuple[bool, bool]:
    across, along = move.end[0] - move.start[0], move.end[1] - move.start[1]
    sideways = abs(across) > abs(along)
    return sideways, (across if sideways else along) > 0


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson 1927)."""
    if not count:
        return 0.0, 1.0
    share, spread = right / count, _Z * _Z / count
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
