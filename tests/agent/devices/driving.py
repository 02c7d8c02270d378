"""Helpers to put a simulated phone on a page and to press what is there."""

from __future__ import annotations

from autoglm.agent.actions import Tap
from autoglm.agent.devices.simulated import Element, PhoneSpec, SimulatedPhone
from autoglm.agent.devices.simulated.state import Page
from autoglm.agent.tasks.grid import grid_point


def calm_phone(seed: int = 1, language: str = "en", theme: str = "light") -> SimulatedPhone:
    """A phone without loading pages, dialogs, log-ins and banners."""
    phone = SimulatedPhone(PhoneSpec(seed, language, theme))
    phone.state.slow = frozenset()
    phone.state.pending = {}
    phone.state.logged_out = {}
    phone.state.banner = ""
    return phone


def show(phone: SimulatedPhone, kind: str, app: str, arg: str = "", **more: object) -> None:
    """Put a page in front."""
    phone.state.stack = (Page("home"), Page(kind, app, arg, **more))  # type: ignore[arg-type]


def element_of(phone: SimulatedPhone, concept: str, kind: str = "") -> Element:
    """The element with this concept; fails where there is none."""
    return next(e for e in phone.elements() if e.concept == concept and kind in ("", e.kind))


def press(phone: SimulatedPhone, concept: str, kind: str = "") -> bool:
    """Tap it; whether the phone changed."""
    return phone.perform(Tap(grid_point(phone.size, element_of(phone, concept, kind))))


def page_kinds(phone: SimulatedPhone) -> dict[str, tuple[str, str]]:
    """Page kind -> (app, arg) with which it can be shown on this phone."""
    person, product = phone.world.people[0], phone.world.products[0]
    settings = {"settings": "", "section": "display", "choice": "brightness"}
    people = {"contacts": "", "contact": person, "call": person}
    shop = {"shop": "", "shop_results": "tea", "product": product, "order": product, "paid": product}
    return {
        "home": ("", ""),
        **{kind: ("settings", arg) for kind, arg in settings.items()},
        **{kind: ("contacts", arg) for kind, arg in people.items()},
        **{kind: ("messages", arg) for kind, arg in {"messages": "", "chat": person}.items()},
        **{kind: ("browser", arg) for kind, arg in {"search": "", "results": "jazz"}.items()},
        **dict.fromkeys(("alarms", "new_alarm"), ("clock", "")),
        **dict.fromkeys(("notes", "new_note"), ("notes", "")),
        **{kind: ("shop", arg) for kind, arg in shop.items()},
        "plain": ("camera", ""),
        **dict.fromkeys(("login", "captcha", "loading"), ("bank", "")),
    }
