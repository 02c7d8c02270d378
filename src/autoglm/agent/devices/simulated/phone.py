"""A simulated phone: shows elements, draws them, and changes as actions hit it."""

from __future__ import annotations

import io
from dataclasses import fields, replace

from PIL import Image

from autoglm.agent.actions import (
    Action,
    Back,
    DoubleTap,
    Home,
    Launch,
    LongPress,
    Point,
    Swipe,
    Tap,
    Type,
    Wait,
)
from autoglm.agent.devices.base import Screenshot
from autoglm.errors import InvalidInputError

from .catalog import app_named, label
from .elements import Element
from .layout import HIDDEN, Effect, Placed
from .render import render_screen
from .screens import go_back, placed
from .spec import PhoneSpec
from .state import MAX_TEXT, Page, PhoneState
from .world import World

HOME_NAME = "System Home"
SWIPE_MINIMUM = 60
"""Thousandths of the screen below which a drag is no swipe."""


class SimulatedPhone:
    """One phone, deterministic by its spec. Not safe for two callers at once.

    ``state`` is public: checkers read it, and tests and scene makers may change it before the next ``elements()``.
    """

    def __init__(self, spec: PhoneSpec) -> None:
        self.spec = spec
        self.world = World.of(spec)
        self.state = PhoneState.initial(self.world)

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"simulated phone {self.spec.seed} ({self.spec.language}, {self.spec.theme})"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.spec.width, self.spec.height

    @property
    def current_app(self) -> str:
        """The app in front, in the phone's language; ``System Home`` on the home screen."""
        app = self.state.page.app
        return label(f"app.{app}", self.spec.language) if app else HOME_NAME

    def placed(self) -> tuple[Placed, ...]:
        """The elements with what drawing and tapping needs."""
        return placed(self.world, self.state)

    def elements(self) -> tuple[Element, ...]:
        """What is on the screen now, in drawing order."""
        return tuple(item.element for item in self.placed() if item.layer != HIDDEN)

    def render(self) -> Image.Image:
        """The screen as an RGB picture of the phone's size."""
        return render_screen(self.world, self.state, self.placed())

    def capture(self) -> Screenshot:
        """The screen as a PNG."""
        buffer = io.BytesIO()
        self.render().save(buffer, "PNG", compress_level=1)
        return Screenshot(buffer.getvalue(), *self.size, self.current_app)

    def copy(self) -> SimulatedPhone:
        """An independent phone in the same state."""
        twin = SimulatedPhone.__new__(SimulatedPhone)
        twin.spec, twin.world, twin.state = self.spec, self.world, self.state.copy()
        return twin

    def signature(self) -> str:
        """Equal for equal logical states, in every process: what a checker or a loop detector compares."""
        state = replace(self.state, history=())
        return repr([(field.name, _ordered(getattr(state, field.name))) for field in fields(state)])

    def close(self) -> None:
        """Nothing to let go of."""

    def perform(self, action: Action) -> bool:
        """Carry out one action; whether the phone changed.

        What hits nothing changes nothing. ``Launch`` of an app that is not on the phone changes nothing and returns
        False, as the real client only reports it; so do the actions that are for the agent's side (``TakeOver``,
        ``Note``, ``Interact``, ``CallApi``, ``Finish``).

        Raises:
            InvalidInputError: a coordinate outside 0..999.
        """
        before = self.state.copy()
        match action:
            case Tap(point) | DoubleTap(point):
                self._press(point, hold=False)
            case LongPress(point):
                self._press(point, hold=True)
            case Swipe(start, end):
                self._swipe(start, end)
            case Type(text):
                self._type(text)
            case Back():
                self._back()
            case Home():
                self._home()
            case Wait():
                self._wait()
            case Launch(app):
                self._launch(app)
            case _:
                return False
        self.state.settle()
        return replace(self.state, history=()) != replace(before, history=())

    def hit(self, point: Point) -> Placed | None:
        """The topmost element that a tap at ``point`` (0..999) reaches, or None."""
        x, y = self._pixel(point)
        for item in reversed(self.placed()):
            left, top, right, bottom = item.element.box
            if item.element.target and left <= x < right and top <= y < bottom:
                return item
        return None

    def _pixel(self, point: Point) -> tuple[float, float]:
        for value in point:
            if not 0 <= value <= 999:
                raise InvalidInputError("A coordinate is 0..999.", field="element", limit=999, value=value)
        return point[0] * self.spec.width / 1000, point[1] * self.spec.height / 1000

    def _press(self, point: Point, *, hold: bool) -> None:
        item = self.hit(point)
        effect: Effect | None = None if item is None else item.hold if hold else item.tap
        if effect is not None:
            effect(self.state)

    def _type(self, text: str) -> None:
        page = self.state.page
        if page.focused and not self.state.dialog:
            self.state.change(replace(page, text=" ".join(text.split())[:MAX_TEXT]))

    def _back(self) -> None:
        go_back(self.state)
        self.state.note("back")

    def _home(self) -> None:
        self.state.dialog = ""
        self.state.stack = (Page("home"),)
        self.state.note("home")

    def _wait(self) -> None:
        self.state.note("wait")
        if self.state.page.kind == "loading":
            self.state.pop()

    def _launch(self, name: str) -> None:
        app = app_named(name)
        if app in self.world.installed and app is not None:
            self.state.dialog = ""
            self.state.open_app(app)

    def _swipe(self, start: Point, end: Point) -> None:
        (x0, y0), (x1, y1) = self._pixel(start), self._pixel(end)
        across, down = x1 - x0, y1 - y0
        if max(abs(across) / self.spec.width, abs(down) / self.spec.height) * 1000 < SWIPE_MINIMUM:
            return
        sideways = abs(across) > abs(down)
        direction = ("left" if across < 0 else "right") if sideways else ("up" if down < 0 else "down")
        self.state.note("swipe", direction)
        if self.state.dialog:
            return
        page = self.state.page
        if page.kind == "home" and sideways:
            last = len(self.world.home) - 1
            scroll = page.scroll + (1 if direction == "left" else -1)
            self.state.change(replace(page, scroll=min(max(scroll, 0), last)))
        elif not sideways:
            self._scroll(direction)

    def _scroll(self, direction: str) -> None:
        """Move a list by a page less one row; content follows the finger."""
        bar = next((item for item in self.placed() if item.element.kind == "scrollbar"), None)
        if bar is not None:
            scroll, last, capacity = (int(part) for part in bar.art.split("/"))
            step = capacity - 1 if direction == "up" else 1 - capacity
            self.state.change(replace(self.state.page, scroll=min(max(scroll + step, 0), last)))


def _ordered(value: object) -> object:
    """Sets have another order in every process."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return sorted(value.items(), key=repr) if isinstance(value, dict) else value
