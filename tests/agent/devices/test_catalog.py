from __future__ import annotations

from collections import Counter

import pytest

from autoglm.agent.devices.simulated.catalog import LABELS, LANGUAGES, SECTIONS, TOGGLES, app_named, concepts, label


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_concepts_are_drawn_alike(language: str) -> None:
    drawn = Counter(label(concept, language) for concept in LABELS)
    assert not [text for text, count in drawn.items() if count > 1]


def test_the_label_set_is_large_and_closed() -> None:
    assert 200 <= len(LABELS) <= 400
    assert all(zh and en for zh, en in LABELS.values())


def test_every_toggle_lives_in_a_section() -> None:
    assert {section for _, _, section in TOGGLES.values()} <= set(SECTIONS)


@pytest.mark.parametrize(("name", "key"), [("设置", "settings"), ("settings", "settings"), (" Clock ", "clock")])
def test_apps_are_known_by_either_name(name: str, key: str) -> None:
    assert app_named(name) == key


def test_other_names_are_no_app() -> None:
    assert app_named("Telegraph") is None


def test_families() -> None:
    assert "app.settings" in concepts("app")
    assert not [concept for concept in concepts("ui") if not concept.startswith("ui.")]
