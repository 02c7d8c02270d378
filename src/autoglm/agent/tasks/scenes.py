"""Training data: one screen with several labelled instructions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from autoglm.agent.actions import Action, Back, Finish, Home, Launch, LongPress, Swipe, TakeOver, Tap, Type, Wait
from autoglm.agent.devices.simulated import Element, SimulatedPhone
from autoglm.agent.devices.simulated.catalog import CHOICES, TOGGLES, app_named, time_text

from .base import Goal, Task
from .goals import Then
from .goals.two import FIRST, SECOND
from .grid import target_cell
from .relevance import relevant
from .splits import SPLITS, Split
from .starts import new_phone, new_task, prepare, random_move, visit
from .talk import Talk
from .templates import Template
from .view import View

RELEVANT = 0.75
DEVIATION = 0.12
FRESH = 0.3
"""How often an instruction is given on a screen without anything having been done for it."""


OWN = 0.9
"""How often an agent that has typed something is one that wanted to: others' lines have to be compared word by word."""
SAME = 0.15
"""Share of samples that ask for the episode's own goal in other words: only its agent knows what it has just done."""
VISIT = 0.1
"""How often the screen is one that episodes rarely show."""
TAKEN: dict[type, float] = {Launch: 0.3, Home: 0.4, Back: 0.6, Finish: 0.75}
"""How often a sample with this action is kept."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled step.

    Attributes:
        instruction, current_app, last_think: what the model sees beside the screen.
        think, action: what the expert says and does.
        target_cell: (row, column) of the cell a tap means; None for other actions.
        task: where the step comes from.
        remembers: without its last thought the expert would do something else.
    """

    instruction: str
    current_app: str
    last_think: str
    think: str
    action: Action
    target_cell: tuple[int, int] | None
    task: Task
    remembers: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """One screen and its samples; ``phone.render()`` draws it."""

    phone: SimulatedPhone
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Arrival:
    """The move that led to a screen."""

    action: Action
    element: Element | None


def scene(rng: random.Random, split: str | Split, k: int) -> Scene:
    """One screen of a split with ``k`` samples.

    The screen comes from an expert's episode of a random task, with random moves in between, stopped at a random
    step. The first sample belongs to that episode; most of the others ask for something that fits the page, with the
    think line an agent would have come with; the rest ask for anything.
    """
    split = SPLITS[split] if isinstance(split, str) else split
    template = split.draw(rng)
    phone = new_phone(rng, split)
    prepare(rng, phone, template)
    state = rng.getstate()
    task = new_task(rng, phone, split, template)
    same = [_reworded(rng, state, phone, split, template) for _ in range(int(k * SAME))]
    last, arrival = roll(rng, task, phone)
    if rng.random() < VISIT:
        arrival = Arrival(*visit(rng, phone))
        view, samples = View(phone), []
    else:
        view = View(phone)
        samples = [label_step(one, view, last) for one in (task, *same)]
    while len(samples) < k:
        samples.append(_other_sample(rng, phone, view, split, arrival))
    rng.shuffle(samples)
    return Scene(phone, tuple(samples))


def _reworded(rng: random.Random, state: Any, phone: SimulatedPhone, split: Split, template: Template) -> Task:
    """The task that was drawn in this state of the generator, in words drawn from ``rng``."""
    again = random.Random()
    again.setstate(state)
    return new_task(again, phone, split, template, wording=rng)


def _other_sample(
    rng: random.Random, phone: SimulatedPhone, view: View, split: Split, arrival: Arrival | None
) -> Sample:
    """A sample of another task; of actions that are easy and frequent, only some are taken."""
    for _ in range(4):
        other = _other_task(rng, phone, split)
        sample = label_step(other, view, think_before(rng, other, arrival))
        if rng.random() < TAKEN.get(type(sample.action), 1.0):
            break
    return sample


def label_step(task: Task, view: View, last_think: str) -> Sample:
    """What the expert does for ``task`` on this screen."""
    step = task.decide(view, last_think)
    cell = None if step.target is None else target_cell(view.size, step.target)
    remembers = bool(last_think) and step != task.decide(view, "")
    return Sample(task.instruction, view.current_app, last_think, step.think, step.action, cell, task, remembers)


def roll(rng: random.Random, task: Task, phone: SimulatedPhone) -> tuple[str, Arrival | None]:
    """Let the expert do a random number of steps; the last think line and the last move."""
    last, arrival = "", None
    for _ in range(rng.randint(0, 7)):
        if rng.random() < DEVIATION:
            action, element = random_move(rng, phone)
            last = _moved(Arrival(action, element), Talk(task.language), "", "")
        else:
            step = task.decide(View(phone), last)
            if isinstance(step.action, Finish | TakeOver):
                break
            action, element, last = step.action, step.target, step.think
        arrival = Arrival(action, element)
        phone.perform(action)
    return last, arrival


def think_before(rng: random.Random, task: Task, arrival: Arrival | None) -> str:
    """The think line with which an agent doing ``task`` would have made the move that led here."""
    if arrival is None or rng.random() < FRESH:
        return ""
    goal, mark = task.goal, ""
    if isinstance(goal, Then):
        mark = FIRST if rng.random() < 0.6 else SECOND
        goal = goal.first if mark == FIRST else goal.second
    if isinstance(arrival.action, Type) and _typed_by(goal) not in ("", arrival.action.text) and rng.random() < OWN:
        return ""
    line = _moved(arrival, Talk(task.language), *_looked_for(goal))
    return mark + line if line else ""


def _typed_by(goal: Goal) -> str:
    """What an agent with this goal types; empty: nothing."""
    time = getattr(goal, "time", "")
    return getattr(goal, "text", "") or (time_text(time) if time else "")


def _looked_for(goal: Goal) -> tuple[str, str]:
    """The concepts of the row and of the icon that an agent with this goal looks for."""
    section = getattr(goal, "section", "")
    if toggle := getattr(goal, "toggle", ""):
        section = TOGGLES[toggle][2]
    if choice := getattr(goal, "choice", ""):
        section = CHOICES[choice][2]
    if section:
        return f"section.{section}", ""
    for field, family in (("person", "contact"), ("product", "product")):
        if key := getattr(goal, field, ""):
            return f"{family}.{key}", ""
    app = getattr(goal, "app", "")
    return "", f"app.{app}" if app else ""


def _moved(arrival: Arrival, talk: Talk, row: str, icon: str) -> str:
    line = ""
    match arrival.action:
        case Launch(name):
            app = app_named(name)
            line = talk.about("open", f"app.{app}") if app else ""
        case Tap() | LongPress():
            line = _tapped(arrival, talk)
        case Swipe(start, end):
            line = _swiped(talk, end[0] - start[0], end[1] - start[1], row, icon)
        case Type(text):
            line = talk.line("type", text)
        case Back():
            line = talk.line("back")
        case Home():
            line = talk.line("home")
        case Wait():
            line = talk.line("wait")
    return line


def _swiped(talk: Talk, across: int, down: int, row: str, icon: str) -> str:
    if abs(across) > abs(down):
        return talk.about("right", icon) if icon and across < 0 else ""
    if not row:
        return talk.line("swipe")
    return talk.about("down" if down < 0 else "up", row)


def _tapped(arrival: Arrival, talk: Talk) -> str:
    element = arrival.element
    if element is None:
        return ""
    if element.kind in ("text_field", "search_box"):
        return talk.line("field")
    if element.kind == "banner":
        return talk.line("tap", talk.spot("banner"))
    if element.kind == "back":
        return talk.line("back")
    if element.kind == "pay_button" or not element.concept:
        return ""
    return talk.about("hold" if isinstance(arrival.action, LongPress) else "tap", element.concept)


def _other_task(rng: random.Random, phone: SimulatedPhone, split: Split) -> Task:
    page = phone.state.page
    if rng.random() < RELEVANT:
        template = relevant(rng, phone, split)
        typed = page.text or page.arg if page.kind in ("chat", "search", "results", "new_note", "notes") else ""
        if page.kind == "chat" and not page.text:
            typed = next((text for mine, text in reversed(phone.state.chats[page.arg]) if mine), "")
        if page.kind == "notes":
            typed = phone.state.notes[0] if phone.state.notes else ""
        focus = page.arg
        if page.kind == "new_alarm":
            focus = page.text.replace(":", "").zfill(4) if page.text else ""
        elif page.kind == "alarms" and phone.state.alarms:
            focus = rng.choice(sorted(phone.state.alarms))
        return new_task(rng, phone, split, template, focus=focus, typed=typed)
    return new_task(rng, phone, split, split.draw(rng))
