"""Corners of a request's life: ids used again, queue limits, order of prefill, budgets of cross-attention."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest
import torch

from autoglm.cache import KVCache, VisualCache
from autoglm.engine import EngineConfig
from autoglm.engine.budget import Budget
from autoglm.engine.output import OutputStream
from autoglm.engine.sampling import SamplerState
from autoglm.engine.scheduler import Scheduler
from autoglm.engine.sequence import Sequence, Sight
from autoglm.errors import InvalidInputError
from autoglm.messages import ChatMessage, SamplingParams
from autoglm.model.context import ImageFeatures
from autoglm.prompt import PlacedImage, ProcessedImage, Prompt
from tests.engine.harness import GREEDY, Driver, engine_of, screen, user


def hold_builds(driver: Driver) -> threading.Event:
    """Prompt building stands still until the event is set."""
    gate = threading.Event()
    build = driver.engine.prompts.build

    def slow(messages: list[ChatMessage], **options: Any) -> Prompt:
        gate.wait(30)
        return build(messages, **options)

    driver.engine.prompts.build = slow  # type: ignore[method-assign,assignment]
    return gate


def test_an_id_used_again_after_cancel_gets_its_own_prompt(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, prompt_workers=1))
    expected = driver.ask([user("the second question")]).tokens
    gate = hold_builds(driver)
    first = driver.submit([user("the first question, something else", screen(1))])
    driver.engine.cancel(first)
    driver.ids -= 1
    again = driver.submit([user("the second question")])
    assert again == first
    gate.set()
    driver.drain()
    result = driver.results[again, 0]
    assert result.tokens == expected
    assert result.finish is not None
    assert result.finish.usage.image_tokens == 0


def test_the_queue_counts_choices(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, max_waiting=4))
    gate = hold_builds(driver)
    ids = [driver.submit([user("Hi")], n=2) for _ in range(3)]
    gate.set()
    driver.drain()
    assert [driver.results[i, 0].failed is not None for i in ids] == [False, False, True]


def test_nothing_follows_a_cancel(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint))
    driver.engine.submit_prompt("a", driver.engine.prompts.build([user("Hi")]), GREEDY)
    driver.engine.cancel("a")
    assert driver.step() == []
    assert not driver.engine.has_work
    driver.engine.check_integrity()


def test_a_better_priority_overtakes_a_running_prefill(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, max_batch_tokens=16))
    build = driver.engine.prompts.build
    driver.engine.submit_prompt("long", build([user("word " * 400)]), GREEDY, priority=1)
    driver.step()
    driver.engine.submit_prompt("urgent", build([user("word")]), GREEDY, priority=0)
    while ("urgent", 0) not in driver.results:
        driver.step()
        assert ("long", 0) not in driver.results
    assert driver.engine.stats().steps < 6
    driver.drain()


def test_every_token_forbidden_is_refused(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint))
    every = tuple(range(driver.engine.model.vocab_size))
    result = driver.ask([user("Hi")], SamplingParams(min_tokens=1, stop_token_ids=every, max_tokens=2))
    assert result.failed is not None
    assert result.failed.error.field == "stop_token_ids"
    assert driver.ask([user("Hi")]).finish is not None


def test_cancel_while_preempted(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, kv_cache_bytes=16 * 16 * 4096))
    sampling = msgspec.structs.replace(GREEDY, max_tokens=60, ignore_eos=True)
    ids = [driver.submit([user(f"question {i} " * 8, screen(i))], sampling) for i in range(4)]
    scheduler = driver.engine.scheduler
    while not any(s.generated for s in scheduler.waiting):
        driver.step()
    victim = next(s for s in scheduler.waiting if s.generated).request_id
    driver.engine.cancel(victim)
    driver.engine.check_integrity()
    assert victim not in {s.request_id for s in (*scheduler.waiting, *scheduler.running)}
    driver.drain()
    assert all(driver.results[i, 0].finish is not None for i in ids if i != victim)
    assert driver.engine.kv.available == driver.engine.kv.num_blocks


def test_context_length_zero_is_refused() -> None:
    for value in (0, 1):
        with pytest.raises(InvalidInputError, match="context_length"):
            EngineConfig(context_length=value)


def test_nothing_grows_with_the_number_of_requests(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, visual_cache_bytes=200_000, image_cache_bytes=400_000))
    sizes: list[int] = []
    for i in range(60):
        driver.ask([user(f"request {i}", screen(i, 56, 56))], msgspec.structs.replace(GREEDY, max_tokens=2))
        sizes.append(driver.engine.stats().resident_bytes)
    # The pool's pages are touched once each; beyond them nothing may accumulate.
    assert np.mean(sizes[-10:]) - np.mean(sizes[20:30]) < 16 * 2**20
    assert driver.engine.visual.bytes <= 200_000


def test_budget_takes_a_group_or_leaves_it() -> None:
    a, b, c = ("", b"a"), ("", b"b"), ("", b"c")
    budget = Budget(tokens=1, patches=10)
    assert budget.encode({a: 8, b: 8})  # over the budget, but the first
    assert budget.encode({b: 8})
    assert not budget.encode({b: 8, c: 1})
    budget = Budget(tokens=1, patches=10)
    assert budget.encode({a: 6})
    assert not budget.encode({b: 3, c: 3})
    assert budget.encode({b: 3})


def test_a_turn_that_sees_more_images_than_the_budget_still_runs() -> None:
    """Cross-attention needs all images of a turn at once, or no token of it can run."""
    images = tuple(
        PlacedImage(ProcessedImage(bytes([i]), np.zeros(0, np.float32), (1, 10, 10), 1), i + 2) for i in range(2)
    )
    kv, visual = KVCache(8, 4), VisualCache[ImageFeatures](0)
    scheduler = Scheduler(EngineConfig(encoder_patches=150), kv, visual, lambda copy: None)
    for order in range(2):
        # Only what scheduling reads; sampling and output are not touched.
        scheduler.add(
            Sequence(
                request_id=str(order),
                index=0,
                order=order,
                priority=0,
                salt=str(order),
                sampling=GREEDY,
                max_tokens=1,
                token_ids=list(range(8)),
                prompt_len=8,
                identities=list(range(8)),
                images=images,
                sights=(Sight(1, None, (0, 1), 1),),
                positions=torch.zeros(3, 8, dtype=torch.int64),
                delta=0,
                sampler=cast(SamplerState, None),
                output=cast(OutputStream, None),
            )
        )
    first, second = scheduler.schedule()
    assert (first.start, first.end) == (0, 8)
    assert (second.start, second.end) == (0, 1)  # up to the turn whose images have to wait
