from __future__ import annotations

import random

import pytest

from autoglm.agent.actions import Action, Finish, Home, Launch, TakeOver, Tap
from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.devices.simulated.catalog import APPS, PEOPLE
from autoglm.agent.tasks import goals
from autoglm.agent.tasks.base import MISSING, SUCCESS, TAKE_OVER, Task
from autoglm.agent.tasks.episodes import oracle_policy, run_episode
from autoglm.agent.tasks.goals.two import SECOND
from tests.agent.devices.driving import calm_phone, show


def task_of(goal: goals.Toggle | object, language: str = "en", *, sensitive: bool = False) -> Task:
    return Task("test", goal, "do it", language, sensitive)  # type: ignore[arg-type]


def test_the_step_limit_ends_a_policy_that_never_does() -> None:
    def idle(instruction: str, phone: SimulatedPhone, current_app: str, last: str) -> tuple[str, Action]:
        return "idle", Home()

    episode = run_episode(task_of(goals.GoHome()), calm_phone(), idle, max_steps=4)
    assert not episode.success
    assert len(episode.steps) == 4


def test_a_policy_sees_its_last_thought_and_the_app() -> None:
    seen: list[tuple[str, str]] = []

    def look(instruction: str, phone: SimulatedPhone, current_app: str, last: str) -> tuple[str, Action]:
        seen.append((current_app, last))
        return f"step {len(seen)}", (Launch("Clock") if len(seen) == 1 else Finish("Clock is open"))

    assert run_episode(task_of(goals.OpenApp("clock")), calm_phone(), look).success
    assert seen == [("System Home", ""), ("Clock", "step 1")]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_what_is_not_there_is_said_so(language: str) -> None:
    phone = calm_phone(language=language)
    nobody = next(key for key in PEOPLE if key not in phone.world.people)
    nothing = next(key for key in APPS if key not in phone.world.installed)
    for goal in (goals.Call(nobody), goals.Text(nobody, "hi"), goals.OpenApp(nothing), goals.TapIcon(nothing)):
        task, here = task_of(goal, language), phone.copy()
        assert goal.ending(here) == MISSING
        episode = run_episode(task, here, oracle_policy(task))
        assert episode.success
        assert not task.judge(here, Finish("All done"), confirmed=False)


def test_a_log_in_is_for_the_person() -> None:
    phone = calm_phone()
    phone.state.stack = phone.state.stack[:1]
    app = next(iter(phone.world.installed & {"bank", "wallet", "travel"}))
    phone.state.logged_out = {app: "login"}
    task = task_of(goals.OpenApp(app))
    assert task.goal.ending(phone) == TAKE_OVER
    episode = run_episode(task, phone, oracle_policy(task))
    assert episode.success
    assert isinstance(episode.steps[-1][1], TakeOver)


def test_two_goals_are_remembered_in_the_think_line() -> None:
    phone = calm_phone()
    goal = goals.Then(goals.Toggle("wlan", True), goals.Toggle("bluetooth", False))
    phone.state.toggles |= {"wlan": False, "bluetooth": True}
    task = task_of(goal)
    episode = run_episode(task, phone, oracle_policy(task))
    assert episode.success
    marks = [think[:4] == SECOND for think, _ in episode.steps]
    assert marks == sorted(marks)
    assert any(marks)
    assert not all(marks)
    phone.state.toggles["wlan"] = False
    assert not task.check(phone)


def test_a_wrong_answer_is_no_success() -> None:
    phone = calm_phone()
    phone.state.toggles["dark"] = True
    task = task_of(goals.AskToggle("dark"))
    assert task.goal.ending(phone) == SUCCESS
    assert task.judge(phone, Finish("Dark mode is on"), confirmed=False)
    assert not task.judge(phone, Finish("Dark mode is off"), confirmed=False)


def test_the_expert_finds_its_way_from_anywhere() -> None:
    """From the middle of a list, a wrong page, an open keyboard, a dialog."""
    rng = random.Random(3)
    for seed in range(6):
        phone = calm_phone(seed)
        person = phone.world.people[-1]
        places = (
            ("contacts", "contacts", "", 3),
            ("call", "contacts", phone.world.people[0], 0),
            ("shop", "shop", "", 2),
        )
        for kind, app, arg, scroll in places:
            show(phone, kind, app, arg, scroll=scroll, focused=kind == "shop")
            phone.state.dialog = rng.choice(("", "update"))
            for goal in (goals.Call(person), goals.ViewProduct(phone.world.products[0]), goals.Toggle("dark", True)):
                task, here = task_of(goal), phone.copy()
                assert run_episode(task, here, oracle_policy(task)).success


def test_sensitive_taps_are_announced_and_counted() -> None:
    phone = calm_phone()
    task = task_of(goals.Buy(phone.world.products[0]), sensitive=True)
    episode = run_episode(task, phone, oracle_policy(task))
    assert episode.success
    assert episode.confirmed
    announced = [action for _, action in episode.steps if isinstance(action, Tap) and action.message]
    assert len(announced) == 1
