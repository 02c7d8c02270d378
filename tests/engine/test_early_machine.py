"""Requests with held-back texts, early images, cancels and refusals in any order: caches agree, answers stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from autoglm.messages import ChatMessage
from tests.engine.harness import COLD, Driver, engine_of, screen, user
from tests.engine.test_early import PATCHES, SHORT, Gate, until

SCREENS = [screen(i, 56, 84) for i in range(24)]  # many: one that was shown is not encoded early again
BROKEN = SCREENS[0][:50]
MESSAGE = st.lists(st.sampled_from(["open", "look at this"]) | st.sampled_from(SCREENS), min_size=1, max_size=3)
FAULTS = st.sampled_from([None, None, None, "words " * 300, BROKEN])
MOST_BUILDING = 2  # as many as there are workers: each of them waits at the gate


class EarlyMachine(RuleBasedStateMachine):
    """``driver`` has a visual cache for two screens; ``cold`` has no cache and does nothing early."""

    driver: Driver
    cold: Driver
    gate: Gate
    expected: dict[str, list[int]]

    def __init__(self) -> None:
        super().__init__()
        self.messages: dict[str, list[ChatMessage]] = {}
        self.building = 0

    @rule(parts=MESSAGE, fault=FAULTS, salt=st.sampled_from(["", "tenant"]))
    def submit(self, parts: list[str | bytes], fault: str | bytes | None, salt: str) -> None:
        if self.building == MOST_BUILDING:
            return
        self.building += 1
        messages = [user(*parts, *([] if fault is None else [fault]))]
        self.messages[self.driver.submit(messages, SHORT, cache_salt=salt)] = messages
        until(lambda: self.gate.waiting == self.building)  # its images are decoded

    @rule()
    def tokenise(self) -> None:
        if self.building:
            self.building -= 1
            self.gate.let()
            until(lambda: self.gate.waiting == self.building)

    @rule(steps=st.integers(1, 3))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            if self.driver.engine.can_step:
                self.driver.step()

    @rule(which=st.integers(0, 7))
    def cancel(self, which: int) -> None:
        if self.messages:
            request = list(self.messages)[which % len(self.messages)]
            self.driver.engine.cancel(request)
            self.driver.results.pop((request, 0), None)
            del self.messages[request]

    @invariant()
    def caches_agree(self) -> None:
        engine = self.driver.engine
        engine.check_integrity()
        stats = engine.stats()
        assert stats.early_used + stats.early_wasted <= stats.early_encodes
        visual = engine.visual  # over its size only by what is in use
        assert visual.bytes <= visual.capacity_bytes or visual.room == visual.capacity_bytes - visual.bytes

    def teardown(self) -> None:
        if self.building:
            self.gate.let(self.building)
        self.driver.drain()
        while self.driver.engine.can_step:
            self.driver.step()
        assert not self.driver.engine.admission.decoded
        for request, messages in self.messages.items():
            ours = self.driver.results.pop((request, 0))
            key = repr(messages)
            if key not in self.expected:
                theirs = self.cold.ask(messages, SHORT)
                self.expected[key] = theirs.tokens
                assert (ours.failed is None) == (theirs.failed is None)
            assert ours.tokens == self.expected[key]


def test_any_order(checkpoint: Path) -> None:
    options: dict[str, Any] = {"context_length": 128, "encoder_patches": 2 * PATCHES}
    EarlyMachine.driver = Driver(engine_of(checkpoint, visual_cache_bytes=26_000, **options))
    EarlyMachine.cold = Driver(engine_of(checkpoint, **COLD, **options))
    EarlyMachine.gate = Gate(EarlyMachine.driver.engine)
    EarlyMachine.expected = {}
    first = EarlyMachine()  # by hand: the tower starts before the text
    first.submit(parts=[SCREENS[0]], fault=None, salt="")
    until(lambda: EarlyMachine.driver.engine.can_step)
    first.step(steps=1)
    first.tokenise()
    first.teardown()
    assert EarlyMachine.driver.engine.stats().early_used == 1
    run_state_machine_as_test(
        EarlyMachine, settings=settings(max_examples=15, stateful_step_count=20, deadline=None, derandomize=True)
    )
