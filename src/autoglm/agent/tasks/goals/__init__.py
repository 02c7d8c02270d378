"""What can be wanted: one frozen dataclass a kind of goal, with its expert and its checker."""

from __future__ import annotations

from .apps import DoInApp, OpenApp, TapIcon
from .clock import DeleteAlarm, SetAlarm, SwitchAlarm, WriteNote
from .moves import AnswerDialog, GoBack, GoHome, NamePage, Pause, ReadBanner, SwipeOnce
from .people import Call, OpenContact, Star, Text
from .search import SearchIn
from .settings import AskToggle, Choose, OpenSection, Toggle
from .shop import Buy, IntoCart, ViewProduct
from .two import Then

__all__ = [
    "AnswerDialog",
    "AskToggle",
    "Buy",
    "Call",
    "Choose",
    "DeleteAlarm",
    "DoInApp",
    "GoBack",
    "GoHome",
    "IntoCart",
    "NamePage",
    "OpenApp",
    "OpenContact",
    "OpenSection",
    "Pause",
    "ReadBanner",
    "SearchIn",
    "SetAlarm",
    "Star",
    "SwipeOnce",
    "SwitchAlarm",
    "TapIcon",
    "Text",
    "Then",
    "Toggle",
    "ViewProduct",
    "WriteNote",
]
