"""A small device with state: a counter on the screen, changed by taps."""

from __future__ import annotations

import threading
import time
from io import BytesIO

from PIL import Image

from autoglm.agent.actions import Action, Back, Launch, Tap, Wait
from autoglm.agent.devices.base import Screenshot
from autoglm.errors import DeviceOfflineError, InvalidInputError


class CounterPhone:
    """Shows ``count``. A tap on the upper half adds one, Back takes one away, other taps hit nothing.

    ``fault`` names the call that fails: "capture", "perform", or either with "!" for an undocumented error.
    """

    name = "counter"

    def __init__(self, fault: str = "") -> None:
        self.count = 0
        self.fault = fault
        self.done: list[Action] = []
        self.closed = 0
        self.slow = 0.0
        self.inside = 0
        self.entered = threading.Event()

    def capture(self) -> Screenshot:
        with _Guard(self, "capture"):
            image = Image.new("RGB", (60, 100), (self.count % 256, self.count // 256, 90))
            out = BytesIO()
            image.save(out, "PNG")
            return Screenshot(out.getvalue(), 60, 100, f"page {self.count}")

    def perform(self, action: Action) -> bool:
        with _Guard(self, "perform"):
            self.done.append(action)
            match action:
                case Tap((_, y)) if y < 500:
                    self.count += 1
                case Back() if self.count:
                    self.count -= 1
                case Launch(app):
                    raise InvalidInputError(f"{app} is not installed", field="app", value=app)
                case Wait(seconds):
                    time.sleep(seconds / 1000)
                    return False
                case _:
                    return False
            return True

    def close(self) -> None:
        self.closed += 1


class _Guard:
    """One caller at a time, faults, and slowness."""

    def __init__(self, phone: CounterPhone, call: str) -> None:
        self.phone, self.call = phone, call

    def __enter__(self) -> None:
        assert self.phone.inside == 0, "two callers at once"
        self.phone.inside += 1
        self.phone.entered.set()
        if self.phone.slow:
            time.sleep(self.phone.slow)
        if self.phone.fault in (self.call, f"{self.call}!"):
            self.phone.inside -= 1
            if self.phone.fault.endswith("!"):
                raise ZeroDivisionError("undocumented")
            raise DeviceOfflineError("the phone has gone", field="device")

    def __exit__(self, *_: object) -> None:
        self.phone.inside -= 1
