"""The interface of a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from autoglm.agent.actions import Action


@dataclass(frozen=True, slots=True)
class Screenshot:
    """What is on the screen now.

    Attributes:
        png: the encoded picture, native resolution.
        width, height: in pixels.
        current_app: name of the app in front, as the client reports it.
    """

    png: bytes
    width: int
    height: int
    current_app: str


class Device(Protocol):
    """A phone. Calls block; one caller at a time (the loop owns its device and closes it)."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    def capture(self) -> Screenshot:
        """The screen as it is now."""

    def perform(self, action: Action) -> bool:
        """Carry out one action; whether it had an effect, as far as the device can tell.

        Raises:
            InvalidInputError: the action cannot be done here (an app that is not installed).
        """

    def close(self) -> None:
        """Let go of the device. Closing twice does nothing."""
