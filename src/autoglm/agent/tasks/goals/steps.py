"""Steps that many experts share: reaching an app, finding a row in a list, filling a field."""

from __future__ import annotations

from autoglm.agent.actions import Back, Finish, Home, Launch, LongPress, Swipe, TakeOver, Tap, Type, Wait
from autoglm.agent.devices.simulated import Element
from autoglm.agent.devices.simulated.catalog import label
from autoglm.agent.tasks.base import Decision
from autoglm.agent.tasks.grid import SWIPES, grid_point
from autoglm.agent.tasks.talk import Talk
from autoglm.agent.tasks.view import View

LOGIN_TITLES = ("ui.login", "ui.captcha")
DECLINE = {"ui.permission": "ui.deny", "ui.update": "ui.later", "ui.ask_delete": "ui.cancel"}
"""dialog -> the button that leaves everything as it is."""


def finish(line: str) -> Decision:
    """End with a message; the thought is the message."""
    return Decision(line, Finish(line))


def missing(talk: Talk, word: str) -> Decision:
    """End by saying that something is not there."""
    return finish(talk.line("missing", word))


def tap(view: View, element: Element, line: str, message: str | None = None) -> Decision:
    """Tap an element."""
    return Decision(line, Tap(grid_point(view.size, element), message), element)


def hold(view: View, element: Element, line: str) -> Decision:
    """Press an element long."""
    return Decision(line, LongPress(grid_point(view.size, element)), element)


def back(talk: Talk) -> Decision:
    """Press back."""
    return Decision(talk.line("back"), Back())


def home(talk: Talk) -> Decision:
    """Press home."""
    return Decision(talk.line("home"), Home())


def swipe(direction: str, line: str) -> Decision:
    """Swipe with the finger moving in ``direction``."""
    move: Swipe = SWIPES[direction]
    return Decision(line, move)


def tap_word(view: View, talk: Talk, concept: str) -> Decision:
    """Tap the button with this label; go back where it is not there."""
    button = view.button(concept)
    return tap(view, button, talk.about("tap", concept)) if button else back(talk)


def settle(view: View, talk: Talk) -> Decision | None:
    """What comes before everything else: wait while loading, decline a dialog. None when the screen is free."""
    if view.loading:
        return Decision(talk.line("wait"), Wait())
    if view.dialog:
        return tap_word(view, talk, DECLINE[view.dialog])
    return None


def enter(view: View, talk: Talk, last: str, app: str) -> Decision | None:
    """Bring ``app`` to the front. None when its pages are there to be used."""
    step = settle(view, talk)
    if step is not None:
        return step
    if view.app != app:
        concept = f"app.{app}"
        line = talk.about("open", concept)
        if last == line:
            return missing(talk, label(concept, talk.language))
        return Decision(line, Launch(label(concept, talk.language)))
    return login(view, talk)


def login(view: View, talk: Talk) -> Decision | None:
    """Hand over to the person on a log-in page."""
    if view.title in LOGIN_TITLES:
        line = talk.line("take_over")
        return Decision(line, TakeOver(line))
    return None


def find(view: View, talk: Talk, last: str, kind: str, concept: str) -> Decision:
    """Tap the row of a list: scroll up to its beginning, then down to its end, then say it is not there."""
    element = view.find(kind, concept)
    if element is not None:
        return tap(view, element, talk.about("tap", concept))
    if view.keyboard:
        return back(talk)
    down = talk.about("down", concept)
    if view.scroll and (last == down or view.scroll == "top"):
        if view.scroll != "bottom":
            return swipe("up", down)
    elif view.scroll:
        return swipe("down", talk.about("up", concept))
    return missing(talk, label(concept, talk.language))


def fill(view: View, talk: Talk, last: str, text: str) -> Decision | None:
    """Get ``text`` into the page's field. None when it was typed in the step before.

    What is in a field may be any text, which a small model cannot be asked to read; that it was just typed is
    remembered.
    """
    field = view.field
    if field is None:
        return back(talk)
    line = talk.line("type", text)
    if view.typed and last == line:
        return None
    if field.state == "focused" or view.keyboard:
        return Decision(line, Type(text))
    return tap(view, field, talk.line("field"))
