"""Where tasks start: phones of a split in a state that a person might have left them in."""

from __future__ import annotations

import random

from autoglm.agent.actions import Action, Back, Launch, LongPress, Swipe, Tap, Type, Wait
from autoglm.agent.devices.simulated import Element, PhoneSpec, SimulatedPhone
from autoglm.agent.devices.simulated.catalog import LOGIN_APPS, TIMES, label, time_text
from autoglm.agent.devices.simulated.state import Page

from .base import Task
from .grid import SWIPES, grid_point
from .splits import Split
from .templates import Ask, Template
from .texts import MESSAGES, random_text

CROSS = 0.15
"""How often an instruction is in the other language than the phone."""
NEVER = ("pay_button", "keyboard")


def new_phone(
    rng: random.Random, split: Split, language: str | None = None, theme: str | None = None
) -> SimulatedPhone:
    """A phone of the split, switched on."""
    return SimulatedPhone(PhoneSpec.random(rng.choice(split.seeds), language, theme))


def prepare(rng: random.Random, phone: SimulatedPhone, template: Template) -> None:
    """Bring the phone into a state where a task of ``template`` may be asked."""
    part = template.id.split(".")
    if part[0] == "dialog" and rng.random() < 0.9:
        _show_dialog(rng, phone, "permission" if part[1] in ("allow", "deny") else "update")
    elif part[0] == "banner" and rng.random() < 0.85:
        phone.state.banner = rng.choice(phone.world.people)
    elif template.id == "move.wait" and rng.random() < 0.6:
        app = rng.choice(sorted(phone.world.installed))
        phone.state.slow |= {app}
        phone.state.open_app(app)
    else:
        wander(rng, phone)


def wander(rng: random.Random, phone: SimulatedPhone) -> None:
    """Stay on the home screen, or go somewhere by a few random moves."""
    draw = rng.random()
    if draw < 0.55:
        return
    if draw < 0.65:
        phone.state.stack = (Page("home", scroll=len(phone.world.home) - 1),)
        return
    phone.state.open_app(rng.choice(sorted(phone.world.installed)))
    phone.state.settle()
    for _ in range(rng.randint(0, 3)):
        phone.perform(random_move(rng, phone)[0])


def random_move(rng: random.Random, phone: SimulatedPhone) -> tuple[Action, Element | None]:
    """An action that a careless hand might make, with the element it hits; never a payment."""
    draw = rng.random()
    elements = [e for e in phone.elements() if e.target and e.kind not in NEVER]
    if phone.state.page.kind == "loading" and draw < 0.8:
        return Wait(), None
    if phone.state.page.focused and draw < 0.4:
        return Type(random_text(rng, phone.spec.language, MESSAGES)), None
    if draw < 0.72 and elements:
        element = rng.choice(elements)
        point = grid_point(phone.size, element)
        return (LongPress(point) if element.kind == "time_row" and draw < 0.2 else Tap(point)), element
    if draw < 0.88:
        move: Swipe = SWIPES[rng.choice(("up", "up", "down", "left", "right"))]
        return move, None
    return Back(), None


def new_task(
    rng: random.Random,
    phone: SimulatedPhone,
    split: Split,
    template: Template,
    *,
    cross: float = CROSS,
    focus: str = "",
    typed: str = "",
    wording: random.Random | None = None,
) -> Task:
    """A task of ``template`` for ``phone``; with probability ``cross`` in the other language than the phone's.

    ``wording``: see :meth:`Template.task`.
    """
    language = phone.spec.language
    if rng.random() < cross:
        language = "en" if language == "zh" else "zh"
    if typed and typed.isascii() != (language == "en"):
        typed = ""
    return template.task(Ask(rng, phone, language, split.phrases_held_out, focus, typed), wording)


def new_start(
    rng: random.Random,
    split: Split,
    template: Template | None = None,
    *,
    language: str | None = None,
    theme: str | None = None,
    cross: float = CROSS,
) -> tuple[Task, SimulatedPhone]:
    """A task and the phone it starts on."""
    template = template or split.draw(rng)
    phone = new_phone(rng, split, language, theme)
    prepare(rng, phone, template)
    phone.state.history = ()
    return new_task(rng, phone, split, template, cross=cross), phone


def visit(rng: random.Random, phone: SimulatedPhone) -> tuple[Action, Element | None]:
    """Go to a page that random moves rarely find; the last move that led there and the element it hit."""
    state = phone.state
    state.dialog = ""
    kind = rng.choice(("order", "order", "paid", "login", "login", "loading", "loading", "delete", "new_alarm"))
    if kind in ("order", "paid"):
        product = rng.choice(phone.world.products)
        state.stack = (Page("home"), Page("shop", "shop"), Page("product", "shop", product))
        if kind == "paid":
            state.push(Page("order", "shop", product))
        return press(phone, "ui.buy" if kind == "order" else "ui.pay")
    if kind == "delete" and state.alarms:
        state.stack = (Page("home"), Page("alarms", "clock"))
        return press(phone, f"time.{rng.choice(sorted(state.alarms))}", hold=True)
    if kind == "new_alarm":
        text = time_text(rng.choice(TIMES)) if rng.random() < 0.6 else ""
        state.stack = (Page("home"), Page("alarms", "clock"), Page("new_alarm", "clock", text=text, focused=True))
        return (Type(text), None) if text else press(phone, "ui.hint_time")
    return _launch_special(rng, phone, login=kind == "login")


def _launch_special(rng: random.Random, phone: SimulatedPhone, *, login: bool) -> tuple[Action, Element | None]:
    state = phone.state
    apps = sorted(phone.world.installed.intersection(LOGIN_APPS)) if login else []
    app = rng.choice(apps or sorted(phone.world.installed))
    if apps:
        state.logged_out[app] = rng.choice(("login", "captcha"))
        state.slow -= {app}
        state.pending.pop(app, None)
    else:
        state.slow |= {app}
    action = Launch(label(f"app.{app}", phone.spec.language))
    phone.perform(action)
    return action, None


def press(phone: SimulatedPhone, concept: str, *, hold: bool = False) -> tuple[Action, Element | None]:
    """Tap (or hold) the element with this concept."""
    element = next(e for e in phone.elements() if e.concept == concept and e.target)
    point = grid_point(phone.size, element)
    action: Action = LongPress(point) if hold else Tap(point)
    phone.perform(action)
    return action, element


def _show_dialog(rng: random.Random, phone: SimulatedPhone, kind: str) -> None:
    apps = sorted(phone.world.installed - {"settings"} - set(phone.state.logged_out))
    app = rng.choice(apps)
    phone.state.slow -= {app}
    phone.state.open_app(app)
    phone.state.pending.pop(app, None)
    phone.state.dialog = kind
