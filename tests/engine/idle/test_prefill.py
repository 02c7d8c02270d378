"""Idle-time prefill on a real engine: the same tokens, fewer of them computed while somebody waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from autoglm.synthetic import make_phone_checkpoint
from tests.engine.harness import GREEDY, Driver, engine_of, screen, user
from tests.engine.idle.client import Client, idle, step

SHORT = msgspec.structs.replace(GREEDY, max_tokens=20, ignore_eos=True)


@pytest.fixture(scope="module", params=["glm4v", "phone"])
def layout(request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint if request.param == "glm4v" else make_phone_checkpoint(tmp_path_factory.mktemp("phone"))


def text_before_the_screen(driver: Driver, client: Client) -> int:
    """Tokens of the client's next prompt up to where the unknown begins."""
    engine = driver.engine
    prompt = engine.prompts.build([*client.messages, user(screen(7), "x")])
    if engine.model.image_in_sequence:
        return prompt.images[-1].start
    return engine.model.visible_spans(prompt.token_ids, [p.start for p in prompt.images])[-1][0]


@pytest.mark.parametrize(
    "habits", [{}, {"verbatim": True}, {"keep_images": True}, {"keep_images": True, "verbatim": True}]
)
def test_the_next_prompt_is_there_up_to_the_new_screen(layout: Path, habits: dict[str, bool]) -> None:
    on, off = (Driver(engine_of(layout, idle_prefill=value)) for value in (True, False))
    clients = Client(**habits), Client(**habits)
    for number in range(4):
        known = text_before_the_screen(on, clients[0])
        results = [step(d, c, sampling=SHORT) for d, c in zip((on, off), clients, strict=True)]
        assert results[0].tokens == results[1].tokens
        assert idle(off) == 0
        if number >= 2:  # two requests have shown the rule
            assert results[0].cached >= known
        assert results[1].cached <= results[0].cached
        idle(on)
    stats = on.engine.stats()
    assert stats.idle_hits >= (1 if habits.get("keep_images") else 2)
    assert stats.idle_saved_tokens > 0
    assert off.engine.stats().idle_computed_tokens == 0


def test_the_phone_clients_rule_needs_no_learning(layout: Path) -> None:
    driver, client = Driver(engine_of(layout)), Client()
    step(driver, client, sampling=SHORT)
    idle(driver)
    known = text_before_the_screen(driver, client)
    assert step(driver, client, sampling=SHORT).cached >= known


@pytest.mark.parametrize(
    "changes", [{}, {"stop": ("o", "R"), "ignore_eos": False}, {"stop": ("o",), "include_stop_in_output": True}]
)
def test_the_text_of_an_answer_is_found_again(checkpoint: Path, changes: dict[str, Any]) -> None:
    driver = Driver(engine_of(checkpoint))
    result = driver.ask(Client().show(), msgspec.structs.replace(SHORT, **changes))
    (dialogue,) = driver.engine.dialogues._order
    assert dialogue.answer is not None
    assert dialogue.answer.text == result.text
