"""Budgets, order, cancellation, refusal."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from autoglm.engine import EngineConfig
from autoglm.errors import InvalidInputError
from autoglm.messages import Accepted, Output, SamplingParams
from tests.engine.harness import GREEDY, Driver, Result, engine_of, screen, user


def failure(result: Result) -> tuple[str, str | None]:
    assert result.failed is not None
    return result.failed.error.kind, result.failed.error.field


def test_token_and_encoder_budgets(checkpoint: Path) -> None:
    engine = engine_of(checkpoint, max_batch_tokens=50, encoder_patches=100)
    driver = Driver(engine)
    rows: list[int] = []
    patches: list[int] = []
    run, encode = engine.runner.run, engine.runner.encoder._encode
    engine.runner.run = lambda chunks: (rows.append(sum(c.count for c in chunks)), run(chunks))[1]  # type: ignore[method-assign,func-returns-value]
    engine.runner.encoder._encode = lambda pixels, grids: (
        patches.append(sum(t * h * w for t, h, w in grids)),  # type: ignore[func-returns-value]
        encode(pixels, grids),
    )[1]
    for i in range(5):
        driver.submit([user("look " * 10, screen(i), screen(i + 1))])
    driver.drain()
    assert max(rows) <= 50
    assert sum(patches) == 6 * 96  # six different pictures, each encoded once
    assert max(patches) <= 100


def test_an_image_over_the_whole_budget_still_runs(checkpoint: Path) -> None:
    assert Driver(engine_of(checkpoint, encoder_patches=10)).ask([user(screen(1))]).finish is not None


def test_decoding_goes_on_during_a_long_prefill(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, max_batch_tokens=16))
    first = driver.submit([user("Hi")], msgspec.structs.replace(GREEDY, ignore_eos=True, max_tokens=60))
    while (first, 0) not in driver.results:
        driver.step()
    second = driver.submit([user("word " * 300)])
    before = len(driver.results[first, 0].tokens)
    steps = 0
    while (second, 0) not in driver.results:
        driver.step()
        steps += 1
    assert steps > 15
    # Every step but the few before the prompt was built brought a token.
    assert len(driver.results[first, 0].tokens) - before >= min(steps, 60 - before) - 1
    driver.drain()


def test_priority(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, max_running=1))
    blocker = driver.submit([user("first")], msgspec.structs.replace(GREEDY, max_tokens=5))
    while not driver.engine.scheduler.running:
        driver.step()
    ids = [driver.submit([user(f"later {p}")], priority=p) for p in (5, -1, 2)]
    while driver.engine.admission.pending:
        time.sleep(0.001)
        driver.step()
    ended: list[str] = []
    while driver.engine.has_work:
        ended += [e.id for e in driver.step() if isinstance(e, Output) and e.finish]
    assert ended in ([blocker, ids[1], ids[2], ids[0]], [ids[1], ids[2], ids[0]])


@pytest.mark.parametrize("steps", range(7))
def test_cancel_at_every_stage(checkpoint: Path, steps: int) -> None:
    driver = Driver(engine_of(checkpoint, max_batch_tokens=32, kv_cache_bytes=12 * 16 * 4096))
    victim = driver.submit([user(screen(1), "one two three four")], n=2)
    other = driver.submit([user(screen(2), "five six")])
    if steps:
        for _ in range(steps):
            driver.step()
    driver.engine.cancel(victim)
    driver.engine.check_integrity()
    seen = sum(len(r.tokens) for key, r in driver.results.items() if key[0] == victim)
    driver.drain()
    assert sum(len(r.tokens) for key, r in driver.results.items() if key[0] == victim) == seen
    assert driver.results[other, 0].finish is not None
    driver.engine.cancel("never seen")


def test_memory_is_given_back(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, kv_cache_bytes=40 * 16 * 4096))
    for i in range(40):
        driver.submit([user(f"request {i}", screen(i % 5))])
        if i % 3 == 0:
            driver.engine.cancel(str(driver.ids))
        driver.step()
    driver.drain()
    assert driver.engine.kv.available == driver.engine.kv.num_blocks


def test_max_tokens_is_clamped(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, context_length=40))
    driver.submit([user("Hi")], msgspec.structs.replace(GREEDY, max_tokens=3000, ignore_eos=True))
    events = []
    while driver.engine.has_work:
        events += driver.step()
    accepted = next(e for e in events if isinstance(e, Accepted))
    assert accepted.prompt_tokens + accepted.max_tokens == 40
    assert len(driver.results["1", 0].tokens) == accepted.max_tokens


def test_too_long_a_prompt_is_refused_with_numbers(checkpoint: Path) -> None:
    result = Driver(engine_of(checkpoint, context_length=40)).ask([user("word " * 100)])
    assert failure(result) == ("context_length_exceeded", "messages")
    assert result.failed is not None
    assert result.failed.error.limit == 39
    assert isinstance(result.failed.error.value, int)


def test_the_pool_bounds_the_context(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, kv_cache_bytes=4 * 16 * 4096))
    assert driver.engine.info().context_length == 64
    assert failure(driver.ask([user("word " * 100)]))[0] == "context_length_exceeded"


def test_bounded_queue(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, max_waiting=3))
    ids = [driver.submit([user("Hi")]) for _ in range(6)]
    driver.drain()
    refused = [i for i in ids if driver.results[i, 0].failed is not None]
    assert len(refused) == 3
    assert {failure(driver.results[i, 0])[0] for i in refused} == {"overloaded"}


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        (SamplingParams(temperature=-1.0), "temperature"),
        (SamplingParams(temperature=float("nan")), "temperature"),
        (SamplingParams(top_p=2.0), "top_p"),
        (SamplingParams(max_tokens=0), "max_tokens"),
        (SamplingParams(stop=("",)), "stop"),
        (SamplingParams(stop_token_ids=(10**6,)), "stop_token_ids"),
        (SamplingParams(logit_bias={-1: 1.0}), "logit_bias"),
        (SamplingParams(logit_bias={1: float("inf")}), "logit_bias"),
    ],
)
def test_bad_sampling_is_named(checkpoint: Path, sampling: SamplingParams, field: str) -> None:
    assert failure(Driver(engine_of(checkpoint)).ask([user("Hi")], sampling)) == ("invalid_input", field)


def test_bad_images_fail_alone(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint))
    bad = driver.submit([user(screen(1)[:100], "x")])
    good = driver.submit([user(screen(1), "x")])
    driver.drain()
    assert failure(driver.results[bad, 0]) == ("invalid_image", "messages[0].content[0]")
    assert driver.results[good, 0].finish is not None


def test_unknown_options_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown"):
        msgspec.json.decode('{"kv_cach_bytes": 1}', type=EngineConfig)
    with pytest.raises(InvalidInputError, match="block_size"):
        EngineConfig(block_size=0)
