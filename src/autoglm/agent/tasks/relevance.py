"""Which templates fit the page in front."""

from __future__ import annotations

import random

from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.devices.simulated.catalog import CHOICES, TOGGLES

from .splits import Split
from .templates import Template

ANYWHERE = ("page.", "move.", "swipe.")
BY_PAGE: dict[str, tuple[str, ...]] = {
    "home": ("icon.", "icon.", "open.", "banner.", "two.open", "text.", "person.call", "toggle.", "alarm.set"),
    "settings": ("toggle.", "toggle.", "section.", "section.", "ask.", "choice.", "two.toggle", "two.choice"),
    "contacts": ("person.",),
    "contact": ("person.",),
    "call": ("person.",),
    "messages": ("text.",),
    "chat": ("text.",),
    "alarms": ("alarm.", "alarm.", "alarm.delete", "two.alarm"),
    "new_alarm": ("alarm.set",),
    "notes": ("note.",),
    "new_note": ("note.",),
    "shop": ("shop.", "shop.", "search.shop"),
    "shop_results": ("search.shop", "shop."),
    "product": ("shop.",),
    "order": ("shop.buy",),
    "paid": ("shop.buy",),
}
"""page kind -> prefixes of template ids, each equally likely."""


def relevant(rng: random.Random, phone: SimulatedPhone, split: Split) -> Template:
    """A template of the split that fits the page; any template where the split has none for it."""
    if phone.state.dialog and rng.random() < 0.5:
        prefix = "dialog."
    elif rng.random() < 0.12:
        prefix = rng.choice(ANYWHERE)
    else:
        prefix = rng.choice(_prefixes(rng, phone))
    found = [template for template in split.templates if template.id.startswith(prefix)]
    return rng.choice(found) if found else split.draw(rng)


def _prefixes(_rng: random.Random, phone: SimulatedPhone) -> tuple[str, ...]:
    page = phone.state.page
    if page.kind == "section":
        return _in_section(page.arg)
    if page.kind == "choice":
        return (
            f"choice.{page.arg}.",
            f"choice.{page.arg}.",
            "choice.",
            f"section.{CHOICES[page.arg][2]}",
            "two.choice",
        )
    if page.kind in ("search", "results"):
        return (f"search.{page.app}", f"search.{page.app}", f"search.{page.app}", f"open.{page.app}", "search.")
    if page.kind in ("plain", "login", "captcha", "loading"):
        found = (f"open.{page.app}", f"icon.{page.app}", f"do.{page.app}", "do.", "two.open")
        return (*found, *BY_PAGE["settings"]) if page.app == "settings" else found
    return BY_PAGE[page.kind]


def _in_section(section: str) -> tuple[str, ...]:
    inside = [key for key, (_, _, parent) in TOGGLES.items() if parent == section]
    choices = [key for key, (_, _, parent) in CHOICES.items() if parent == section]
    found = [f"toggle.{key}." for key in inside] * 4 + [f"ask.{key}" for key in inside]
    found += [f"choice.{key}." for key in choices] * 3
    return (*found, f"section.{section}", "toggle.", "two.toggle", "section.")
