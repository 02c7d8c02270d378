"""The registry of task templates."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.devices.simulated.catalog import (
    APP_ACTIONS,
    APPS,
    CHOICE_VALUES,
    CHOICES,
    PEOPLE,
    PRODUCTS,
    SEARCH_APPS,
    SECTIONS,
    SPOKEN,
    TIMES,
    TOGGLES,
    label,
    time_text,
)

from . import goals
from .base import Goal, Task
from .phrases import split_phrases
from .texts import MESSAGES, NOTES, QUERIES, random_text

CONNECTIONS = ("wlan", "bluetooth")
"""Toggles that people also ask to connect to."""
FOCUSED = 0.7
"""How often a focus is followed."""
ABSENT = 0.13
"""How often a person, product or alarm is asked for that is not on the phone."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a template draws from.

    Attributes:
        rng: chance.
        phone: the task is for it.
        language: of the instruction.
        held_out: use the phrases that training never sees.
        focus: key of a person, product or alarm to prefer; "" for none.
        typed: text to prefer where one is to be typed; "" for none.
    """

    rng: random.Random
    phone: SimulatedPhone
    language: str
    held_out: bool = False
    focus: str = ""
    typed: str = ""

    def word(self, concept: str) -> str:
        """A label in the instruction's language."""
        return label(concept, self.language)

    def present(self, here: tuple[str, ...], everything: tuple[str, ...]) -> str:
        """Mostly something that is on the phone."""
        if self.focus in everything and self.rng.random() < FOCUSED:
            return self.focus
        absent = [key for key in everything if key not in here]
        if absent and (not here or self.rng.random() < ABSENT):
            return self.rng.choice(absent)
        return self.rng.choice(here)

    def text(self, bank: Mapping[str, tuple[str, ...]]) -> str:
        """Something to type."""
        if self.typed and self.rng.random() < FOCUSED:
            return self.typed
        return random_text(self.rng, self.language, bank)


Drawn = tuple[Goal, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Template:
    """One kind of task.

    Attributes:
        id: unique, e.g. ``toggle.wlan.on``.
        phrases: family of ``phrases.PHRASES``.
        draw: makes a goal and the words for the phrase's slots.
        sensitive: a confirmation belongs to it.
        cross: may be asked in the other language than the phone's.
    """

    id: str
    phrases: str
    draw: Callable[[Ask], Drawn]
    sensitive: bool = False

    @property
    def family(self) -> str:
        """The first part of the id."""
        return self.id.split(".", 1)[0]

    def task(self, ask: Ask, wording: random.Random | None = None) -> Task:
        """A task for this phone. ``wording``: chooses the phrase, where the rest is to be drawn once more as before."""
        goal, slots = self.draw(ask)
        phrase = (wording or ask.rng).choice(split_phrases(self.phrases, ask.language, held_out=ask.held_out))
        return Task(self.id, goal, phrase.format(**slots), ask.language, self.sensitive)


def _spoken(ask: Ask, toggle: str) -> str:
    if toggle in SPOKEN:
        return ask.rng.choice(SPOKEN[toggle][0 if ask.language == "zh" else 1])
    return ask.word(f"toggle.{toggle}")


def _open(app: str) -> Callable[[Ask], Drawn]:
    return lambda ask: (goals.OpenApp(app), {"app": ask.word(f"app.{app}")})


def _icon(app: str) -> Callable[[Ask], Drawn]:
    return lambda ask: (goals.TapIcon(app), {"app": ask.word(f"app.{app}")})


def _do(app: str) -> Callable[[Ask], Drawn]:
    return lambda ask: (goals.DoInApp(app), {"app": ask.word(f"app.{app}"), "thing": ask.word(f"do.{app}")})


def _section(key: str) -> Callable[[Ask], Drawn]:
    return lambda ask: (goals.OpenSection(key), {"thing": ask.word(f"section.{key}")})


def _toggle(key: str, on: bool) -> Callable[[Ask], Drawn]:
    return lambda ask: (goals.Toggle(key, on), {"thing": _spoken(ask, key)})


def _ask(key: str) -> Callable[[Ask], Drawn]:
    return lambda ask: (goals.AskToggle(key), {"thing": _spoken(ask, key)})


def _choice(key: str, value: str) -> Callable[[Ask], Drawn]:
    return lambda ask: (
        goals.Choose(key, value),
        {"thing": ask.word(f"item.{key}"), "value": ask.word(f"value.{value}")},
    )


def _person(make: Callable[[str], Goal]) -> Callable[[Ask], Drawn]:
    def draw(ask: Ask) -> Drawn:
        person = ask.present(ask.phone.world.people, tuple(PEOPLE))
        return make(person), {"person": ask.word(f"contact.{person}")}

    return draw


def _product(make: Callable[[str], Goal]) -> Callable[[Ask], Drawn]:
    def draw(ask: Ask) -> Drawn:
        product = ask.present(ask.phone.world.products, tuple(PRODUCTS))
        name = ask.word(f"product.{product}")
        return make(product), {"product": name.lower() if ask.rng.random() < 0.5 else name}

    return draw


def _alarm(make: Callable[[str], Goal], *, existing: bool) -> Callable[[Ask], Drawn]:
    def draw(ask: Ask) -> Drawn:
        here = tuple(ask.phone.state.alarms)
        time = ask.present(here, TIMES) if existing or ask.focus in TIMES else ask.rng.choice(TIMES)
        text = time_text(time)
        return make(time), {"time": text.removeprefix("0") if ask.rng.random() < 0.5 else text}

    return draw


def _text(ask: Ask) -> Drawn:
    person = ask.present(ask.phone.world.people, tuple(PEOPLE))
    text = ask.text(MESSAGES)
    return goals.Text(person, text), {"person": ask.word(f"contact.{person}"), "text": text}


def _note(ask: Ask) -> Drawn:
    text = ask.text(NOTES)
    return goals.WriteNote(text), {"text": text}


def _search(app: str) -> Callable[[Ask], Drawn]:
    def draw(ask: Ask) -> Drawn:
        if app == "shop":
            text = ask.word(f"product.{ask.present(ask.phone.world.products, tuple(PRODUCTS))}")
        else:
            text = ask.text(QUERIES)
        return goals.SearchIn(app, text), {"app": ask.word(f"app.{app}"), "text": text}

    return draw


def _plain(goal: Goal) -> Callable[[Ask], Drawn]:
    return lambda _ask: (goal, {})


def _two(first: tuple[str, ...], second: tuple[str, ...]) -> Callable[[Ask], Drawn]:
    """Two goals whose templates have one of these prefixes; phrased by their own families."""

    def draw(ask: Ask) -> Drawn:
        one = _pick(ask, first)
        other = _pick(ask, second)
        while other.id.rsplit(".", 1)[0] == one.id.rsplit(".", 1)[0]:
            other = _pick(ask, second)
        tasks = [one.task(ask), other.task(ask)]
        words = [task.instruction for task in tasks]
        if ask.language == "en":
            words = [word[0].lower() + word[1:] for word in words]
        goal = goals.Then(tasks[0].goal, tasks[1].goal)
        return goal, {"first": words[0], "second": words[1]}

    return draw


def _pick(ask: Ask, prefixes: tuple[str, ...]) -> Template:
    matching = [t for t in TEMPLATES.values() if t.id.startswith(prefixes) and t.id not in HELD_OUT]
    installed = ask.phone.world.installed
    return ask.rng.choice([t for t in matching if t.family != "open" or t.id.split(".")[1] in installed])


def _singles() -> list[Template]:
    found = [Template(f"open.{app}", "open", _open(app)) for app in APPS]
    found += [Template(f"icon.{app}", "icon", _icon(app)) for app in APPS]
    found += [Template(f"do.{app}", "do", _do(app)) for app in APP_ACTIONS]
    found += [Template(f"section.{key}", "section", _section(key)) for key in SECTIONS]
    for key in TOGGLES:
        found += [
            Template(f"toggle.{key}.on", "connect" if key in CONNECTIONS else "on", _toggle(key, True)),
            Template(f"toggle.{key}.off", "off", _toggle(key, False)),
            Template(f"ask.{key}", "ask", _ask(key)),
        ]
    for key in CHOICES:
        found += [Template(f"choice.{key}.{v}", "choice", _choice(key, v)) for v in CHOICE_VALUES[key]]
    found += [Template(f"search.{app}", "search", _search(app)) for app in SEARCH_APPS]
    return [*found, Template("search.shop", "shop_search", _search("shop"))]


def _unique() -> list[Template]:
    words = ("allow", "deny", "later", "update_now")
    return [
        Template("person.call", "call", _person(goals.Call)),
        Template("person.open", "contact", _person(goals.OpenContact)),
        Template("person.star.on", "star", _person(lambda key: goals.Star(key, True))),
        Template("person.star.off", "unstar", _person(lambda key: goals.Star(key, False))),
        Template("text.send", "text", _text),
        Template("shop.view", "view", _product(goals.ViewProduct)),
        Template("shop.cart", "cart", _product(goals.IntoCart)),
        Template("shop.buy", "buy", _product(goals.Buy), sensitive=True),
        Template("alarm.set", "alarm", _alarm(goals.SetAlarm, existing=False)),
        Template("alarm.on", "alarm_on", _alarm(lambda t: goals.SwitchAlarm(t, True), existing=True)),
        Template("alarm.off", "alarm_off", _alarm(lambda t: goals.SwitchAlarm(t, False), existing=True)),
        Template("alarm.delete", "alarm_delete", _alarm(goals.DeleteAlarm, existing=True)),
        Template("note.write", "note", _note),
        *(Template(f"dialog.{word}", word, _plain(goals.AnswerDialog(word))) for word in words),
        Template("banner.open", "banner", _plain(goals.ReadBanner())),
        Template("move.back", "back", _plain(goals.GoBack())),
        Template("move.home", "home", _plain(goals.GoHome())),
        Template("move.wait", "wait", _plain(goals.Pause())),
        *(
            Template(f"swipe.{way}", f"swipe_{way}", _plain(goals.SwipeOnce(way)))
            for way in ("up", "down", "left", "right")
        ),
        Template("page.name", "page", _plain(goals.NamePage())),
    ]


def _pairs() -> list[Template]:
    home = ("move.home",)
    return [
        Template("two.toggle.toggle", "two", _two(("toggle.",), ("toggle.",))),
        Template("two.toggle.open", "two", _two(("toggle.",), ("open.",))),
        Template("two.toggle.home", "two", _two(("toggle.",), home)),
        Template("two.open.home", "two", _two(("open.",), home)),
        Template("two.open.toggle", "two", _two(("open.",), ("toggle.",))),
        Template("two.choice.home", "two", _two(("choice.",), home)),
        Template("two.choice.open", "two", _two(("choice.",), ("open.",))),
        Template("two.alarm.home", "two", _two(("alarm.set",), home)),
        Template("two.alarm.toggle", "two", _two(("alarm.set",), ("toggle.",))),
    ]


TEMPLATES: dict[str, Template] = {t.id: t for t in [*_singles(), *_unique(), *_pairs()]}
"""Every template by its id."""

HELD_OUT: frozenset[str] = frozenset(
    f"toggle.{key}" for key in ("eye.off", "hotspot.on", "sync.off", "face.on", "vibration.off", "clock24.on")
) | frozenset(
    (
        "open.weather",
        "open.files",
        "icon.news",
        "icon.maps",
        "icon.clock",
        "section.storage",
        "section.privacy",
        "ask.dark",
        "ask.saver",
        "ask.roaming",
        "choice.volume.low",
        "choice.font.large",
        "choice.timeout.m1",
        "do.health",
        "search.food",
        "two.choice.home",
        "two.alarm.toggle",
    )
)
"""Templates that training never sees.

What they name occurs in other templates, but for the storage and privacy sections, the time-out of one minute and the
large font: these are drawn on training screens and never asked for.
"""
