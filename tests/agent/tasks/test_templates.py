from __future__ import annotations

import random
import string
from collections import Counter

import pytest

from autoglm.agent.actions import Finish
from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.devices.simulated.fonts import text_width
from autoglm.agent.tasks.base import Task
from autoglm.agent.tasks.episodes import oracle_policy, run_episode
from autoglm.agent.tasks.phrases import PHRASES, split_phrases
from autoglm.agent.tasks.splits import SPLITS, Split
from autoglm.agent.tasks.starts import new_start
from autoglm.agent.tasks.templates import HELD_OUT, TEMPLATES
from autoglm.agent.tasks.texts import MESSAGES, NOTES, QUERIES, random_text

ANY = Split("any", range(200_000_000, 200_100_000))
LANGUAGES = ("zh", "en")
ONLY_DRAWN = ("storage", "privacy", "m1", "large")
"""Objects that training shows and never asks for."""


def start(template_id: str, seed: int) -> tuple[Task, SimulatedPhone]:
    """A task of a template; languages take turns."""
    language = LANGUAGES[seed % 2]
    return new_start(random.Random(f"{template_id}/{seed}"), ANY, TEMPLATES[template_id], language=language)


def test_there_are_many_templates_and_some_are_held_out() -> None:
    assert len(TEMPLATES) >= 60
    assert set(TEMPLATES) >= HELD_OUT
    assert 0.1 <= len(HELD_OUT) / len(TEMPLATES) <= 0.15


def test_what_is_held_out_is_made_of_known_parts() -> None:
    """Every family, and every object of the catalogue that a held-out template names, occurs in others."""
    kept = {t for t in TEMPLATES if t not in HELD_OUT}
    for held in HELD_OUT:
        family, *objects = held.split(".")
        assert any(t.startswith(f"{family}.") for t in kept)
        for part in objects:
            assert part in ONLY_DRAWN or any(part in t.split(".") for t in kept), held


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_family_has_paraphrases(language: str) -> None:
    for family in {t.phrases for t in TEMPLATES.values()}:
        kept = split_phrases(family, language, held_out=False)
        held = split_phrases(family, language, held_out=True)
        assert len(kept) >= 3
        assert len(set(kept)) == len(kept)
        assert not set(kept) & set(held)


def test_no_phrase_belongs_to_two_families() -> None:
    """Except ``connect``, which is ``on`` with more."""
    for index in (0, 1):
        families = [set(pair[index]) for family, pair in PHRASES.items() if family != "connect"]
        counts = Counter(phrase for phrases in families for phrase in phrases)
        assert not [phrase for phrase, count in counts.items() if count > 1]


def test_slots_are_the_same_in_all_phrases_of_a_family() -> None:
    for family, pair in PHRASES.items():
        slots = {
            frozenset(name for _, name, _, _ in string.Formatter().parse(phrase) if name)
            for phrases in pair
            for phrase in phrases
        }
        assert len(slots) == 1, family


@pytest.mark.parametrize("template_id", TEMPLATES)
def test_the_expert_does_it_and_idleness_does_not(template_id: str) -> None:
    for seed in range(2):
        task, phone = start(template_id, seed)
        idle = phone.copy()
        episode = run_episode(task, phone, oracle_policy(task))
        assert episode.success, (task, episode.steps)
        assert episode.confirmed <= task.sensitive
        assert not task.judge(idle, None, confirmed=True)
        assert not task.judge(idle, Finish("?"), confirmed=True) or task.check(idle, "?")


def test_most_tasks_have_yet_to_be_done() -> None:
    starts = [start(template_id, 3) for template_id in TEMPLATES]
    done = [task.template_id for task, phone in starts if task.judge(phone, Finish("?"), confirmed=True)]
    assert len(done) < 0.3 * len(starts), done


def test_a_payment_must_be_announced() -> None:
    for seed in range(6):
        task, phone = start("shop.buy", seed)
        episode = run_episode(task, phone, oracle_policy(task))
        assert episode.success
        if episode.confirmed:
            ending = episode.steps[-1][1]
            assert task.judge(phone, ending, confirmed=True)
            assert not task.judge(phone, ending, confirmed=False)


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_fit_the_narrowest_field(language: str) -> None:
    rng = random.Random(1)
    for bank in (MESSAGES, QUERIES, NOTES):
        drawn = [random_text(rng, language, bank) for _ in range(300)]
        assert all(text_width(text, 18) <= 210 for text in drawn)
        assert 0.3 < sum(text in bank[language] for text in drawn) / len(drawn) < 0.8
        assert all(text == text.strip() and text for text in drawn)
        assert all(text.isascii() == (language == "en") for text in drawn)


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_the_expert_does_almost_everything(split: str) -> None:
    rng = random.Random(f"expert {split}")
    done = 0
    for _ in range(400):
        task, phone = new_start(rng, SPLITS[split])
        done += run_episode(task, phone, oracle_policy(task)).success
    assert done >= 398
