"""The closed set of labels a simulated phone can draw, each under a concept key in both languages.

A concept is ``family.key`` (``app.settings``, ``toggle.wlan``, ``contact.alice``, ``product.tea``, ``time.0730``,
``ui.send``). In one language no two concepts are drawn alike, so a reader can name a concept from its picture.
"""

from __future__ import annotations

from functools import cache

from .apps import ALWAYS_INSTALLED, APP_ACTIONS, APPS, LOGIN_APPS, SEARCH_APPS
from .people import PEOPLE
from .products import PRODUCTS
from .settings import CHOICE_VALUES, CHOICES, SECTIONS, SPOKEN, TOGGLES, VALUES
from .words import WORDS

__all__ = [
    "ALWAYS_INSTALLED",
    "APPS",
    "APP_ACTIONS",
    "CHOICES",
    "CHOICE_VALUES",
    "LABELS",
    "LANGUAGES",
    "LOGIN_APPS",
    "PEOPLE",
    "PRODUCTS",
    "SEARCH_APPS",
    "SECTIONS",
    "SPOKEN",
    "TIMES",
    "TOGGLES",
    "VALUES",
    "app_named",
    "concepts",
    "label",
    "time_text",
]

LANGUAGES = ("zh", "en")
TIMES: tuple[str, ...] = tuple(
    sorted({f"{hour:02d}{minute:02d}" for hour in range(6, 24) for minute in (hour % 4 * 15, 30)})
)
"""Alarm times, ``HHMM``; drawn ``HH:MM`` in both languages."""


def time_text(time: str) -> str:
    """``0730`` -> ``07:30``."""
    return f"{time[:2]}:{time[2:]}"


def _labels() -> dict[str, tuple[str, str]]:
    families: dict[str, dict[str, tuple[str, str]]] = {
        "app": APPS,
        "do": APP_ACTIONS,
        "section": SECTIONS,
        "toggle": {key: (zh, en) for key, (zh, en, _) in TOGGLES.items()},
        "item": {key: (zh, en) for key, (zh, en, _) in CHOICES.items()},
        "value": VALUES,
        "contact": PEOPLE,
        "product": PRODUCTS,
        "time": {time: (time_text(time), time_text(time)) for time in TIMES},
        "ui": WORDS,
    }
    return {f"{family}.{key}": pair for family, members in families.items() for key, pair in members.items()}


LABELS: dict[str, tuple[str, str]] = _labels()
"""concept -> (Chinese, English)."""


def label(concept: str, language: str) -> str:
    """The drawn label of ``concept`` in ``language`` ("zh" or "en")."""
    return LABELS[concept][LANGUAGES.index(language)]


@cache
def concepts(family: str) -> tuple[str, ...]:
    """All concepts of a family, e.g. ``concepts("app")``."""
    return tuple(concept for concept in LABELS if concept.startswith(f"{family}."))


def app_named(name: str) -> str | None:
    """The key of the app called ``name`` in either language, whatever the case; None if there is none."""
    wanted = name.strip().casefold()
    return next((key for key, pair in APPS.items() if wanted in (part.casefold() for part in pair)), None)
