from __future__ import annotations

import random
from collections import Counter

from autoglm.agent.actions import Finish, LongPress, Swipe, TakeOver, Tap, Type, Wait, format_action
from autoglm.agent.tasks.grid import cell_point
from autoglm.agent.tasks.oracle import oracle
from autoglm.agent.tasks.scenes import Sample, Scene, scene
from autoglm.agent.tasks.view import View


def scenes(count: int, seed: int = 1) -> list[Scene]:
    rng = random.Random(seed)
    return [scene(rng, "train", 6) for _ in range(count)]


def rows(one: Scene) -> list[tuple[str, str, str, str, str]]:
    return [(s.instruction, s.current_app, s.last_think, s.think, format_action(s.action)) for s in one.samples]


def test_scenes_follow_from_the_generator() -> None:
    for a, b in zip(scenes(10), scenes(10), strict=True):
        assert a.phone.signature() == b.phone.signature()
        assert rows(a) == rows(b)


def test_labels_are_what_the_expert_does() -> None:
    for one in scenes(40):
        assert len(one.samples) == 6
        for sample in one.samples:
            step = oracle(sample.task, one.phone, sample.last_think)
            assert (step.think, step.action) == (sample.think, sample.action)
            assert sample.current_app == one.phone.current_app
            _check_target(one, sample)


def _check_target(one: Scene, sample: Sample) -> None:
    assert (sample.target_cell is None) == (not isinstance(sample.action, Tap | LongPress))
    if sample.target_cell is not None and isinstance(sample.action, Tap | LongPress):
        assert sample.action.element == cell_point(*sample.target_cell)
        step = oracle(sample.task, one.phone, sample.last_think)
        hit = one.phone.hit(sample.action.element)
        assert hit is not None
        assert hit.element == step.target


def test_the_expert_sees_only_what_is_drawn() -> None:
    """Hidden state that changes no pixel changes no decision."""
    for one in scenes(30):
        twin = one.phone.copy()
        twin.state.history = ()
        twin.state.pending = {}
        twin.state.slow = frozenset()
        twin.state.stack = twin.state.stack[-1:]
        assert View(twin).elements == View(one.phone).elements
        for sample in one.samples:
            step = oracle(sample.task, twin, sample.last_think)
            assert (step.think, step.action) == (sample.think, sample.action)


def test_the_mix_holds_every_kind_of_action() -> None:
    drawn = [(one, sample) for one in scenes(120) for sample in one.samples]
    samples = [sample for _, sample in drawn]
    crossed = sum(sample.task.language != one.phone.spec.language for one, sample in drawn)
    assert 0.08 < crossed / len(drawn) < 0.25
    kinds = Counter(type(sample.action) for sample in samples)
    share = {kind: count / len(samples) for kind, count in kinds.items()}
    for kind, least in ((Tap, 0.2), (Finish, 0.12), (Swipe, 0.04), (Type, 0.025), (Wait, 0.01)):
        assert share[kind] >= least, kind
    assert kinds[TakeOver] >= 2
    assert kinds[LongPress] >= 2
    assert any(isinstance(s.action, Tap) and s.action.message for s in samples)
    assert {sample.task.language for sample in samples} == {"zh", "en"}
