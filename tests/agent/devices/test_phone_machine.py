"""Any sequence of actions keeps the phone sound; what hits nothing changes nothing."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from autoglm.agent.actions import Back, DoubleTap, Home, Launch, LongPress, Swipe, Tap, Type, Wait
from autoglm.agent.devices.simulated import PhoneSpec, SimulatedPhone
from autoglm.agent.devices.simulated.catalog import APPS
from autoglm.agent.tasks.grid import grid_point

from .audit import faults

POINTS = st.tuples(st.integers(0, 999), st.integers(0, 999))


class Fingers(RuleBasedStateMachine):
    """Random hands on a phone."""

    @initialize(seed=st.integers(0, 100_000))
    def start(self, seed: int) -> None:
        self.phone = SimulatedPhone(PhoneSpec.random(seed))

    @rule(choice=st.integers(0, 1000), hold=st.booleans())
    def press_something(self, choice: int, hold: bool) -> None:
        targets = [e for e in self.phone.elements() if e.target]
        if targets:
            element = targets[choice % len(targets)]
            point = grid_point(self.phone.size, element)
            hit = self.phone.hit(point)
            assert hit is not None
            assert hit.element == element
            self.phone.perform(LongPress(point) if hold else Tap(point))

    @rule(point=POINTS, kind=st.sampled_from((Tap, LongPress, DoubleTap)))
    def press_anywhere(self, point: tuple[int, int], kind: type[Tap] | type[LongPress] | type[DoubleTap]) -> None:
        before, missed = self.phone.signature(), self.phone.hit(point) is None
        changed = self.phone.perform(kind(point))
        assert changed == (self.phone.signature() != before)
        if missed:
            assert not changed

    @rule(start=POINTS, end=POINTS)
    def swipe(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        self.phone.perform(Swipe(start, end))

    @rule(text=st.text(max_size=90))
    def type_something(self, text: str) -> None:
        focused = self.phone.state.page.focused
        assert focused or not self.phone.perform(Type(text))
        if focused:
            self.phone.perform(Type(text))

    @rule(action=st.sampled_from((Back(), Home(), Wait())))
    def key(self, action: Back | Home | Wait) -> None:
        self.phone.perform(action)

    @rule(app=st.sampled_from([name for pair in APPS.values() for name in pair]))
    def launch(self, app: str) -> None:
        self.phone.perform(Launch(app))

    @invariant()
    def sound(self) -> None:
        assert faults(self.phone) == []
        assert len(self.phone.state.stack) <= 12


Fingers.TestCase.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestFingers = Fingers.TestCase
