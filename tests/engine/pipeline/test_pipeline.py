"""Pipelines of real processes: the same tokens as one rank, whatever is batched, split, cancelled or preempted, on the
kernels and on torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoglm.engine import Engine
from autoglm.engine.pipeline.plan import Plan
from autoglm.engine.pipeline.runner import PipelineRunner
from autoglm.engine.ranks import replica
from autoglm.engine.ranks.messages import Step
from autoglm.messages import ChatMessage, SamplingParams
from autoglm.parallel.pipeline.bubble import measured_bubble
from autoglm.parallel.pipeline.microbatch import RowCost
from autoglm.parallel.pipeline.partition import Partition
from tests.engine.harness import Driver, Result, engine_of, screen, user

OPTIONS: dict[str, Any] = {"integer_products": False, "max_batch_tokens": 128}
"""Rounded rows would not give the keys and values that a preempted request gets from its second prefill."""
BLOCKS = 42
"""Of the KV pool, in one rank and in several: too few for all requests, so that some are preempted."""
LAYER_BYTES = {"glm4v": 16 * 2 * 2 * 64 * 4, "autoglm_phone": 16 * 2 * 2 * 32 * 4}
"""Of a block in one layer."""
SHAPES: dict[str, tuple[str, int, Partition, dict[str, Any]]] = {
    "glm4v in 2 stages, torch": ("glm4v", 1, Partition((0, 1), 4, 0), {"native_decode": False}),
    "glm4v in 2 stages of 2, int4": ("glm4v", 2, Partition((0, 3), 4, 0), {"quantization": "int4"}),
    "autoglm_phone in 2 stages, tower on the second, int8": (
        "autoglm_phone",
        1,
        Partition((0, 2), 4, 1),
        {"quantization": "int8"},
    ),
    "autoglm_phone in 2 stages of 2, fusion in both": (
        "autoglm_phone",
        2,
        Partition((0, 3), 4, 0),
        {"vision_parallel": "sequence"},
    ),
}


@dataclass
class Pair:
    """The same checkpoint in one rank and in several."""

    one: Engine
    many: Engine

    def ask(self, requests: list[tuple[list[ChatMessage], SamplingParams]]) -> tuple[list[Result], list[Result]]:
        """All at once, to both."""
        found = []
        for engine in (self.one, self.many):
            driver = Driver(engine)
            ids = [driver.submit(messages, sampling) for messages, sampling in requests]
            driver.drain()
            found.append([driver.results[i, 0] for i in ids])
        return found[0], found[1]


@pytest.fixture(scope="module", params=SHAPES)
def pair(request: pytest.FixtureRequest, checkpoint: Path, phone: Path) -> Iterator[Pair]:
    layout, tensor, partition, changes = SHAPES[request.param]
    directory = checkpoint if layout == "glm4v" else phone
    pool = BLOCKS * LAYER_BYTES[layout]
    both = OPTIONS | {"quantization": "none", "native_decode": True} | changes
    one = engine_of(directory, kv_cache_bytes=pool * 4, **both | {"vision_parallel": "tensor"})
    with pytest.MonkeyPatch.context() as patch:  # not what this machine measures, but what is to be tested
        patch.setattr(replica, "plan_stages", lambda *_: Plan(partition, RowCost(1.0, 0.001)))
        many = engine_of(
            directory,
            tensor_parallel_size=tensor,
            pipeline_parallel_size=2,
            kv_cache_bytes=pool * partition.stage(0).largest // tensor,
            **both,
        )
    assert one.kv.num_blocks == many.kv.num_blocks == BLOCKS
    assert one.info().parameters == many.info().parameters
    yield Pair(one, many)
    many.close()
    one.close()


@cache
def picture(seed: int) -> bytes:
    return screen(seed)


def request_of(words: int, image: int | None, tokens: int, penalty: float) -> tuple[list[ChatMessage], SamplingParams]:
    parts: list[str | bytes] = [f"word{i * words % 97} " for i in range(words)]
    if image is not None:
        parts.insert(len(parts) // 2, picture(image))
    return [user(*parts)], SamplingParams(temperature=0.0, max_tokens=tokens, frequency_penalty=penalty)


REQUESTS = st.lists(
    st.builds(
        request_of,
        st.integers(1, 60),
        st.sampled_from([None, 1, 2, 3]),
        st.integers(1, 8),
        st.sampled_from([0.0, 0.2]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests=REQUESTS)
def test_greedy_tokens_are_those_of_one_rank(
    pair: Pair, requests: list[tuple[list[ChatMessage], SamplingParams]]
) -> None:
    expected, found = pair.ask(requests)
    assert [r.tokens for r in found] == [r.tokens for r in expected]
    assert all(r.tokens for r in found)


def test_sampled_tokens_and_log_probabilities_come_from_whole_logits(pair: Pair) -> None:
    sampling = SamplingParams(temperature=0.7, top_p=0.9, seed=11, max_tokens=6, logprobs=3)
    messages, _ = request_of(30, 2, 1, 0.0)
    expected, found = pair.ask([(messages, sampling), request_of(4, None, 4, 0.0)])
    assert [r.tokens for r in found] == [r.tokens for r in expected]
    for ours, theirs in zip(found[0].logprobs, expected[0].logprobs, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)


def test_what_is_preempted_or_cancelled_in_flight_harms_nobody(pair: Pair) -> None:
    before = pair.many.scheduler.preemptions
    long = [request_of(60 + n, None, 60, 0.2) for n in range(6)]
    alone = Driver(pair.one)
    expected = [alone.ask(*request) for request in long]
    driver = Driver(pair.many)
    ids = [driver.submit(messages, sampling) for messages, sampling in long]
    for number in itertools.count():
        if not pair.many.has_work:
            break
        driver.step()
        if number % 7 == 0:
            pair.many.stats()  # asks the stages how they worked, between micro-batches in flight
        if number == 30:
            pair.many.cancel(ids[5])
            pair.many.cancel(ids[0])
    pair.many.check_integrity()
    assert pair.many.scheduler.preemptions > before
    for index in (1, 2, 3, 4):
        assert driver.results[ids[index], 0].tokens == expected[index].tokens


def test_decoding_takes_the_kernels_unless_they_are_switched_off(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = pair.many.runner
    assert isinstance(runner, PipelineRunner)
    steps: list[Step] = []
    order = runner._order
    monkeypatch.setattr(runner, "_order", lambda batch: (steps.append(batch.step), order(batch)))
    sampling = SamplingParams(temperature=0.0, max_tokens=5, ignore_eos=True)
    pair.ask([([user("one", picture(3))], sampling), ([user("another")], sampling)])
    alone = [step for step in steps if all(part.query_len == 1 for part in step.parts)]
    assert len(alone) >= 4
    assert [step.native for step in alone] == [pair.many.config.native_decode] * len(alone)
    assert not any(step.native for step in steps if step not in alone)
    config = pair.many.config
    prefills = config.native_decode and config.tensor_parallel_size == 1
    assert (pair.many.model.decoder.kernels is not None) == prefills


def test_running_sequences_are_spread_evenly_over_as_many_micro_batches_as_stages(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that began apart, in micro-batches of fewer, come together."""
    runner = pair.many.runner
    assert isinstance(runner, PipelineRunner)
    rows: list[int] = []
    order = runner._order
    monkeypatch.setattr(runner, "_order", lambda batch: (rows.append(batch.rows), order(batch)))
    driver = Driver(pair.many)
    sampling = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)
    for number in range(6):
        driver.submit([user(f"question {number}")], sampling)
        driver.step()
    driver.drain()
    middle = len(rows) // 2  # all six run
    assert rows[middle - 4 : middle + 4] == [3] * 8


def test_every_stage_ran_every_micro_batch_and_the_bubble_is_measured(pair: Pair) -> None:
    runner, flights = pair.many.runner, pair.many.flights
    assert isinstance(runner, PipelineRunner)
    assert flights is not None
    flights.drain()
    runner.intervals()
    launched = flights.launched
    pair.ask([request_of(60, 1, 4, 0.0)])
    flights.drain()
    intervals = runner.intervals()
    assert [len(stage) for stage in intervals] == [flights.launched - launched] * 2
    for first, second in zip(*intervals, strict=True):
        assert second[1] > first[0]  # one clock, in order
    assert 0.0 < measured_bubble(intervals).share < 1.0
    pair.ask([request_of(60, 1, 4, 0.0)])
    told = pair.many.stats()
    assert told.pipeline_stages == 2
    assert told.pipeline_micro_batches >= 1.0
    assert 0.0 < told.pipeline_bubble < 1.0
    assert 0.0 < told.pipeline_bubble_formula <= 0.5
    alone = pair.one.stats()
    assert (alone.pipeline_stages, alone.pipeline_bubble, alone.pipeline_bubble_formula) == (1, 0.0, 0.0)
