"""A simulated phone that an agent and people operate at the same time."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from autoglm.agent.actions import Action
from autoglm.agent.devices.base import Screenshot
from autoglm.agent.devices.simulated import SimulatedPhone

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Picture:
    """A screenshot and its identity.

    Attributes:
        etag: of the encoded picture: equal tags, equal pixels.
    """

    shot: Screenshot
    etag: str


class LiveScreen:
    """A phone with a lock, and with at most one capture for each change: who asks next gets the same picture.

    Args:
        phone: owned from now on; closed by :meth:`close`.
        changed: called after each action with the app in front, from any thread.
    """

    def __init__(self, phone: SimulatedPhone, changed: Callable[[str], None]) -> None:
        self._phone = phone
        self._changed = changed
        self._lock = threading.Lock()
        self._picture: Picture | None = None

    @property
    def name(self) -> str:
        """The phone's."""
        return self._phone.name

    def capture(self) -> Screenshot:
        """The screen as it is now."""
        return self.picture().shot

    def picture(self) -> Picture:
        """The screen as it is now, and its tag."""
        with self._lock:
            if self._picture is None:
                shot = self._phone.capture()
                self._picture = Picture(shot, f'"{hashlib.sha256(shot.png).hexdigest()[:32]}"')
            return self._picture

    def perform(self, action: Action) -> bool:
        """Carry out one action. Viewers are told whether or not the phone saw an effect."""
        with self._lock:
            effect = self._phone.perform(action)
            self._picture = None
            app = self._phone.current_app
        self._changed(app)
        return effect

    def inspect(self, look: Callable[[SimulatedPhone], T]) -> T:
        """What ``look`` says of the phone while nobody acts on it."""
        with self._lock:
            return look(self._phone)

    def close(self) -> None:
        """Let go of the phone."""
        with self._lock:
            self._phone.close()
