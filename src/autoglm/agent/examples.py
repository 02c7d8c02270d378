"""Every action once or more, as a model writes it: what an engine needs to guess the fixed parts of answers."""

from __future__ import annotations

from autoglm.agent.actions import (
    Action,
    Back,
    CallApi,
    DoubleTap,
    Finish,
    Home,
    Interact,
    Launch,
    LongPress,
    Note,
    Swipe,
    TakeOver,
    Tap,
    Type,
    Wait,
    format_action,
)

_TEXTS = ("Ab", "7 d")
"""Values that begin and end unlike each other, so that only what surrounds them looks certain."""
_POINTS = ((3, 141), (592, 65), (35, 897))


def answer_examples() -> list[str]:
    """Answers from the opening tag on. The fixed parts are equal wherever they are fixed, the values differ."""
    actions: list[Action] = [Back(), Home(), Interact(), Note(), Wait(2), Wait(31)]
    for point, other in zip(_POINTS, _POINTS[1:] + _POINTS[:1], strict=True):
        actions += [Tap(point), DoubleTap(point), LongPress(point), Swipe(point, other)]
    for text, point in zip(_TEXTS, _POINTS, strict=False):
        actions += [Launch(text), Type(text), Type(text, name=True), Tap(point, text)]
        actions += [TakeOver(text), CallApi(text), Note(text), Finish(text)]
    return [f"<answer>{format_action(action)}</answer>" for action in actions]
