"""A simulated phone that an agent and people operate at the same time."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from autoglm.agent.actions import Action
from autoglm.agent.devices.base import Device, Screenshot


@dataclass(frozen=True, slots=True)
class Frame:
    """A screenshot and its identity.

    Attributes:
        etag: of the encoded picture: equal tags, equal pixels.
    """

    shot: Screenshot
    etag: str


class LiveScreen:
    """A device with a lock, and with at most one capture for each change: who asks next gets the same picture.

    Args:
        device: owned from now on; closed by :meth:`close`.
        changed: called, from any thread, after each action.
    """

    def __init__(self, device: Device, changed: Callable[[], None]) -> None:
        self._device = device
        self._changed = changed
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """The device's."""
        return self._device.name

    def capture(self) -> Screenshot:
        """The screen as it is now."""
        return self.frame().shot

    def frame(self) -> Frame:
        """The screen as it is now, and its tag."""
        with self._lock:
            if self._frame is None:
                shot = self._device.capture()
                self._frame = Frame(shot, f'"{hashlib.sha256(shot.png).hexdigest()[:32]}"')
            return self._frame

    def perform(self, action: Action) -> bool:
        """Carry out one action; viewers are told, whether or not the device saw an effect."""
        with self._lock:
            effect = self._device.perform(action)
            self._frame = None
        self._changed()
        return effect

    def close(self) -> None:
        """Let go of the device, once."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._device.close()
