from __future__ import annotations

import random
from itertools import combinations

from autoglm.agent.tasks.phrases import PHRASES
from autoglm.agent.tasks.scenes import scene
from autoglm.agent.tasks.splits import SPLITS, WEIGHTS
from autoglm.agent.tasks.templates import HELD_OUT, TEMPLATES


def test_layouts_never_meet() -> None:
    for a, b in combinations(SPLITS.values(), 2):
        assert a.seeds.stop <= b.seeds.start or b.seeds.stop <= a.seeds.start


def test_every_template_is_somewhere_and_none_on_both_sides() -> None:
    train = {t.id for t in SPLITS["train"].templates}
    held = {t.id for t in SPLITS["held_out_templates"].templates}
    assert train | held == set(TEMPLATES)
    assert not train & held
    assert {t.family for t in TEMPLATES.values()} == set(WEIGHTS)


def test_training_never_sees_what_is_held_out() -> None:
    rng = random.Random(4)
    held = [phrase for pair in PHRASES.values() for phrases in pair for phrase in phrases[-1:]]
    fixed = {phrase for phrase in held if "{" not in phrase}
    for _ in range(60):
        one = scene(rng, "train", 6)
        assert one.phone.spec.seed in SPLITS["train"].seeds
        for sample in one.samples:
            assert sample.task.template_id not in HELD_OUT
            assert sample.instruction not in fixed


def test_held_out_scenes_show_only_what_is_held_out() -> None:
    rng = random.Random(5)
    for _ in range(15):
        one = scene(rng, "held_out_templates", 4)
        assert {sample.task.template_id for sample in one.samples} <= HELD_OUT
