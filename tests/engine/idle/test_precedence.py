"""Real work comes first: guesses stand back within a step, and leave nothing behind when they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from autoglm.cache import Worth
from autoglm.engine.idle.prefill import Pace
from autoglm.errors import InvalidInputError
from autoglm.messages import ChatMessage, KeepSession, TextPart
from tests.engine.harness import GREEDY, Driver, engine_of, screen, user
from tests.engine.idle.client import Client, idle, step

SHORT = msgspec.structs.replace(GREEDY, max_tokens=6, ignore_eos=True)


def interrupted(checkpoint: Path, **options: Any) -> tuple[Driver, Client]:
    """An engine in the middle of a guess at the client's next prompt."""
    driver, client = Driver(engine_of(checkpoint, idle_step_ms=1, **options)), Client("a task of some length " * 6)
    step(driver, client, sampling=SHORT)
    assert idle(driver, 1) == 1
    assert driver.engine.idle.open_tables == 1
    return driver, client


def test_real_work_runs_in_the_very_next_step(checkpoint: Path) -> None:
    driver, client = interrupted(checkpoint)
    engine = driver.engine
    before = engine.stats().idle_computed_tokens
    prompt = engine.prompts.build([user("something else")])
    engine.submit_prompt("other", prompt, SHORT)
    assert not engine.idle_step()  # a request is there: nothing else is begun
    driver.step()
    assert engine.idle.open_tables == 0
    assert len(driver.results["other", 0].tokens) == 1
    assert engine.stats().idle_interruptions == 1
    driver.drain()
    assert engine.stats().idle_computed_tokens == before
    assert idle(driver) > 0  # goes on where it was
    assert engine.stats().idle_computed_tokens > before
    computed = engine.stats().idle_computed_tokens
    step(driver, client, sampling=SHORT)
    stats = engine.stats()
    assert (stats.idle_predictions, stats.idle_hits) == (1, 1)
    assert stats.idle_saved_tokens == computed


def test_a_prompt_being_built_is_real_work(checkpoint: Path) -> None:
    driver, client = interrupted(checkpoint)
    driver.submit(client.show(), SHORT)
    assert not driver.engine.idle_step()
    driver.drain()


def test_what_was_computed_before_the_request_came_is_used(checkpoint: Path) -> None:
    driver, client = interrupted(checkpoint)
    step(driver, client, sampling=SHORT)
    stats = driver.engine.stats()
    assert 0 < stats.idle_saved_tokens == stats.idle_computed_tokens
    assert not driver.engine.idle.open_tables


def test_a_wrong_guess_is_not_hit_and_is_the_first_to_go(checkpoint: Path) -> None:
    on, off = (
        Driver(engine_of(checkpoint, idle_prefill=value, kv_cache_bytes=64 * 16 * 4096)) for value in (True, False)
    )
    other = [ChatMessage("system", "another dialogue " * 40), user("which other clients still want")]
    results = []
    for driver in (on, off):
        client = Client("a task of some length " * 6)
        step(driver, client, sampling=SHORT)
        idle(driver)
        driver.ask(other, SHORT)
        idle(driver)
        client.messages[1] = ChatMessage("user", [TextPart("the client tells its history in another way")])
        results.append(step(driver, client, sampling=SHORT))
        while driver.engine.kv.evictions_of(Worth.GUESSED) + driver.engine.kv.counters.evictions == 0:
            driver.ask([user(f"{driver.ids} pressure " * 40)], SHORT)
    assert results[0].tokens == results[1].tokens
    assert results[0].cached == results[1].cached
    stats = on.engine.stats()
    assert (stats.idle_hits, stats.idle_saved_tokens) == (0, 0)
    assert on.engine.kv.evictions_of(Worth.GUESSED) == on.engine.kv.counters.evictions > 0
    again = on.ask(other, SHORT)
    assert again.finish is not None
    assert again.cached == again.finish.usage.prompt_tokens - 1  # all of what was asked for is there


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_cancelling_forgets_the_request_not_the_guess(checkpoint: Path, steps: int) -> None:
    driver, client = interrupted(checkpoint)
    request = client.show()
    first = driver.submit(request, SHORT)
    for _ in range(steps):
        driver.step()
    driver.engine.cancel(first)
    driver.engine.check_integrity()
    driver.drain()
    assert driver.ask(request, SHORT).finish is not None
    assert not driver.engine.dialogues._live
    idle(driver)


def test_a_purged_session_is_forgotten(checkpoint: Path) -> None:
    driver, client = Driver(engine_of(checkpoint, idle_step_ms=1)), Client("a task of some length " * 6)
    step(driver, client, sampling=SHORT, session="s")
    assert idle(driver, 1) == 1
    driver.engine.keep(KeepSession(session="s", seconds=0.0))
    assert len(driver.engine.dialogues) == driver.engine.idle.open_tables == 0
    assert idle(driver) == 0


def test_closing_lets_go_of_everything(checkpoint: Path) -> None:
    driver, _ = interrupted(checkpoint)
    driver.engine.close()
    driver.engine.check_integrity()
    assert driver.engine.kv.available == driver.engine.kv.num_blocks


def test_off_switches(checkpoint: Path) -> None:
    for options in ({"idle_prefill": False}, {"prefix_caching": False}):
        driver, client = Driver(engine_of(checkpoint, **options)), Client()
        step(driver, client, sampling=SHORT)
        assert idle(driver) == 0
    with pytest.raises(InvalidInputError, match="idle_step_ms"):
        engine_of(checkpoint, idle_step_ms=0)


def test_phones_that_begin_alike_are_told_apart(checkpoint: Path) -> None:
    driver, phones = Driver(engine_of(checkpoint)), [Client(), Client()]
    for number in range(3):
        for index, phone in enumerate(phones):
            picture = screen(10 * number + index)
            result = driver.ask(phone.show(picture), SHORT)
            phone.hear(result.text)
        idle(driver)
    stats = driver.engine.stats()
    assert stats.idle_predictions == stats.idle_hits + 2 == 6  # the last two answers were not followed
    assert len(driver.engine.dialogues) == 2


def test_pace_follows_the_clock() -> None:
    pace = Pace(30 / 1024, 256)
    for _ in range(20):
        pace.took(pace.tokens, pace.tokens / 1024)
    assert pace.tokens == 30
    pace.took(7, 0.007)  # the end of a prompt
    assert pace.tokens == 30
    pace.took(7, 0.5)  # something else held it up
    assert pace.tokens == 1
    for _ in range(20):
        pace.took(pace.tokens, pace.tokens * 1e-6)
    assert pace.tokens == 256
