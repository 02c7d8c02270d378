"""A phone that exists only as a state machine and a picture."""

from __future__ import annotations

from .elements import KINDS, Box, Element
from .phone import HOME_NAME, SimulatedPhone
from .spec import PhoneSpec

__all__ = ["HOME_NAME", "KINDS", "Box", "Element", "PhoneSpec", "SimulatedPhone"]
