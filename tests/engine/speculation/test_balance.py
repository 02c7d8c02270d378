"""What drafting may lose at most, on a clock that the tests turn."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.engine.speculation import speculator as speculator_module
from autoglm.engine.speculation.balance import Balance
from autoglm.engine.speculation.speculator import Speculator


def run(balance: Balance, steps: int, thought: float, gained: float = 0.0) -> list[int]:
    """Which of so many steps of one second were not paused."""
    awake = []
    for step in range(steps):
        if balance.paused:
            balance.step(1.0, 0.0)
        else:
            awake.append(step)
            balance.thought(thought)
            balance.step(1.0, gained)
    return awake


def test_a_trial_that_fails_is_short_and_the_next_one_comes_ever_later() -> None:
    awake = run(Balance(), 20_000, thought=0.2)
    assert 8 <= len([step for step in awake if step < 200]) <= 20
    assert sum(0.19 for _ in awake) < 0.003 * 20_000
    pauses = [b - a for a, b in itertools.pairwise(awake) if b > a + 1]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 3 * pauses[0]
    assert pauses[-1] < 5000  # it never gives up for good


def test_what_pays_or_hardly_costs_is_never_paused() -> None:
    for thought, gained in ((0.1, 0.2), (0.1, 0.1), (0.005, 0.0), (0.0, 0.0)):
        assert len(run(Balance(), 5000, thought, gained)) == 5000


def test_drafting_goes_on_where_it_pays_again() -> None:
    balance = Balance()
    assert len(run(balance, 200, thought=0.3)) < 15
    assert balance.paused
    late = run(balance, 2000, thought=0.1, gained=0.5)
    assert late == list(range(late[0], 2000))
    assert late[0] < 1000


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(0.0, 2.0), st.floats(0.001, 100.0))
def test_no_course_of_things_loses_more_than_one_percent_and_a_trial(seed: int, cost: float, second: float) -> None:
    """However gains and losses come, in steps of any length; the last step of a trial may go below nothing."""
    draw = random.Random(seed)
    balance, net, total, trials = Balance(), 0.0, 0.0, 0
    most = 0.0
    for _ in range(3000):
        if draw.random() < 0.01:
            cost = draw.random() * 2
        total += second
        if balance.paused:
            balance.step(second, 0.0)
            continue
        thought, gained = draw.random() * cost * second, draw.uniform(-0.5, 0.6) * cost * second
        most = max(most, thought - gained)
        balance.thought(thought)
        balance.step(second, gained)
        net += gained - thought
        trials += balance.paused
    assert -net <= 0.01 * total + 6 * second + most


def test_a_clock_that_stands_still_decides_nothing() -> None:
    balance = Balance()
    for _ in range(100):
        balance.thought(1.0)
        balance.step(0.0, 0.0)
    assert not balance.paused


class Clock:
    """In place of :mod:`time`: each look at it takes ``look`` seconds."""

    def __init__(self, look: float) -> None:
        self.now, self.look = 0.0, look

    def thread_time(self) -> float:
        """Seconds."""
        self.now += self.look
        return self.now


def answered(speculator: Speculator, tokens: list[int], seconds: float) -> int:
    """One answer, a token a step; in how many of the steps something was thought."""
    sequence: Any = SimpleNamespace(
        token_ids=[50, 51], prompt_len=2, generated=0, outlook=None, salt="", max_tokens=10_000, drafted=0
    )
    awake = 0
    for token in tokens:
        speculator.plan([cast(Any, sequence)], room=64)
        awake += sequence.outlook is not None
        sequence.token_ids.append(token)
        sequence.generated += 1
        speculator.ran([cast(Any, SimpleNamespace(count=1, draft=()))], seconds, 0)
    speculator.finished(sequence)
    assert sequence.outlook is None
    return awake


def test_a_pause_outlives_the_answer_and_nothing_is_thought_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(look=0.4)  # thinking takes two fifths of a step
    monkeypatch.setattr(speculator_module, "time", clock)
    speculator = Speculator(3, 64)
    noise = [n * 7919 % 50 for n in range(60)]
    assert 3 < answered(speculator, noise, seconds=1.0) < 20
    looked = clock.now
    assert [answered(speculator, noise, seconds=1.0) for _ in range(3)] == [0, 0, 0]
    assert clock.now == looked


def test_answers_of_a_pause_are_read_when_it_ends_and_no_more_than_a_few() -> None:
    speculator = Speculator(3, 64)
    speculator.balance.thought(100.0)
    speculator.balance.step(1.0, 0.0)
    assert speculator.balance.paused
    for answer in range(20):
        answered(speculator, [answer] * 4 + [40], seconds=1e-9)
    assert speculator.answers.of("") is None
    while speculator.balance.paused:
        speculator.balance.step(1.0, 0.0)
    answered(speculator, [1, 2], seconds=1.0)
    tree = speculator.answers.of("")
    assert tree is not None
    assert len(tree) == 8
    assert sorted(tree.root.children or {}) == [*range(12, 20), 40]
