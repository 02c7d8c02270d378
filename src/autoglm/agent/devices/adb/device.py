"""A phone through ADB, as a :class:`autoglm.agent.devices.base.Device`. Commands and pauses are the client's."""

from __future__ import annotations

import re
import time

from autoglm.agent import actions
from autoglm.agent.actions import Action, Point
from autoglm.agent.devices.adb.apps import HOME, app_of, package_of
from autoglm.agent.devices.adb.keyboard import type_text
from autoglm.agent.devices.adb.link import AdbConfig, AdbLink
from autoglm.agent.devices.adb.screen import black, find_png, png_size, screen_size
from autoglm.agent.devices.base import Screenshot
from autoglm.errors import DeviceError, InvalidInputError

_LONG_PRESS_MS = 3000
_SWIPE_MS = (1000, 2000)
_FOCUS = re.compile(r"\b([A-Za-z]\w*(?:\.\w+)+)/", re.ASCII)


class AdbDevice:
    """One phone. Calls block for at most a few times ``config.timeout``, plus the pauses; one caller at a time.

    Raises:
        DeviceError: a subclass says why the phone cannot be used.
        InvalidInputError: several phones are attached and none was named.
    """

    def __init__(self, config: AdbConfig | None = None) -> None:
        self._config = config or AdbConfig()
        self._link: AdbLink | None = AdbLink(self._config)
        self._name = f"adb:{self._link.serial}"
        self._size: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """``adb:`` and the serial."""
        return self._name

    def capture(self) -> Screenshot:
        """The screen now; black, in the screen's size, where the phone forbids it.

        Raises:
            DeviceError: the phone does not answer.
        """
        png = find_png(self._phone.raw("screencap -p"))
        if png is None:
            png = black(screen_size(self._phone.must("wm", "size")))
        self._size = png_size(png)
        return Screenshot(png, *self._size, self.current_app())

    def current_app(self) -> str:
        """The app in front by its known name, else ``System Home``, as the client reports it."""
        for line in self._phone.must("dumpsys", "window").splitlines():
            if "mCurrentFocus" in line or "mFocusedApp" in line:
                for package in _FOCUS.findall(line):
                    if name := app_of(package):
                        return name
        return HOME

    def perform(self, action: Action) -> bool:
        """Carry out ``action`` and let the screen settle. ADB does not say whether something happened: true.

        Raises:
            InvalidInputError: the app is not known or not installed, the text cannot be typed, or the action is not
                a phone's.
            DeviceError: the phone does not answer, or refused.
        """
        if isinstance(action, actions.Wait):
            time.sleep(action.seconds)
            return True
        self._do(action)
        time.sleep(self._config.settle)
        return True

    def close(self) -> None:
        """Nothing stays open between calls; later ones are refused."""
        self._link = None

    @property
    def _phone(self) -> AdbLink:
        if self._link is None:
            raise DeviceError("the device is closed", field="device", value=self._name)
        return self._link

    def _do(self, action: Action) -> None:
        match action:
            case actions.Tap(element):
                self._input("tap", *self._pixels(element))
            case actions.DoubleTap(element):
                self._input("tap", *self._pixels(element))
                time.sleep(self._config.double_tap_pause)
                self._input("tap", *self._pixels(element))
            case actions.LongPress(element):
                self._input("swipe", *self._pixels(element) * 2, _LONG_PRESS_MS)
            case actions.Swipe(start, end):
                self._swipe(self._pixels(start), self._pixels(end))
            case actions.Type(text):
                type_text(self._phone, text, self._config.keyboard_pause)
            case actions.Back():
                self._input("keyevent", "4")
            case actions.Home():
                self._input("keyevent", "KEYCODE_HOME")
            case actions.Launch(app):
                self._launch(app)
            case _:
                kind = type(action).__name__
                raise InvalidInputError(f"{kind} is not something a phone does", field="action", value=kind)

    def _input(self, *words: str | int) -> None:
        self._phone.must("input", *map(str, words))

    def _swipe(self, start: Point, end: Point) -> None:
        squared = (start[0] - end[0]) ** 2 + (start[1] - end[1]) ** 2
        low, high = _SWIPE_MS
        self._input("swipe", *start, *end, max(low, min(squared // 1000, high)))

    def _launch(self, app: str) -> None:
        package = package_of(app)
        if package is None:
            raise InvalidInputError(f"no app called {app!r} is known", field="app", value=app)
        result = self._phone.shell("monkey", "-p", package, "-c", "android.intent.category.LAUNCHER", "1")
        if result.status != 0 or "No activities found" in result.output:
            raise InvalidInputError(f"{app} ({package}) is not installed", field="app", value=package)

    def _pixels(self, point: Point) -> Point:
        """The client's rule: a thousandth of the last screenshot's size, cut down to whole pixels."""
        if self._size is None:
            self._size = screen_size(self._phone.must("wm", "size"))
        width, height = self._size
        return int(point[0] / 1000 * width), int(point[1] / 1000 * height)
