"""Drafting changes nothing but the number of steps."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.cache import sighted_identity
from autoglm.engine import Engine
from autoglm.messages import ChatMessage, SamplingParams
from tests.engine.harness import Driver, engine_of, screen, user
from tests.engine.speculation.guesser import guess

ANSWER = '<think>the shop is on the screen</think><answer>do(action="Tap", element=[500,200])</answer>'
SYSTEM = ChatMessage("system", "You operate a phone. " * 4)
REQUESTS = [
    [user("Hi")],
    [SYSTEM, user(screen(1), "open the shop")],
    [SYSTEM, user(screen(1), "and", screen(2, 56, 224), "compare")],
    [SYSTEM, user("open the shop"), ChatMessage("assistant", ANSWER), user(screen(3), "next")],
    [SYSTEM, user(screen(4), "look"), ChatMessage("assistant", "done"), user("go on")],
]
GREEDY = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)
WAYS = [
    GREEDY,
    msgspec.structs.replace(GREEDY, frequency_penalty=0.2),
    msgspec.structs.replace(GREEDY, frequency_penalty=0.2, presence_penalty=0.3, stop=("e", "你")),
    msgspec.structs.replace(GREEDY, repetition_penalty=1.2, min_tokens=5, ignore_eos=False),
    msgspec.structs.replace(GREEDY, logprobs=3, max_tokens=7),
    msgspec.structs.replace(GREEDY, logit_bias={17: 5.0}, frequency_penalty=0.2),
    msgspec.structs.replace(GREEDY, temperature=0.7, top_p=0.9, top_k=40, seed=3, frequency_penalty=0.2),
    msgspec.structs.replace(GREEDY, max_tokens=1),
]


Asked = list[tuple[int, SamplingParams, int, int]]
"""(which request, how, choices, steps before the next)"""


def run(driver: Driver, asked: Asked) -> dict[tuple[str, int], tuple[Any, ...]]:
    """What each choice came to. Log-probabilities are rough: torch adds in another order for another shape."""
    for which, sampling, choices, steps in asked:
        driver.submit(REQUESTS[which], sampling, n=choices)
        for _ in range(steps):
            driver.step()
    driver.drain()
    found = {}
    for key, result in driver.results.items():
        assert result.finish is not None
        logprobs = [(t.raw, pytest.approx(t.logprob, abs=1e-3)) for t in result.logprobs]
        found[key] = (result.tokens, result.text, result.finish.reason, result.finish.matched, logprobs)
    return found


def chains(engine: Engine) -> Iterator[tuple[int, ...]]:
    """Token identities of every path of the prefix index, from its root to a leaf."""

    def walk(node: Any, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if not node.children:
            yield path
        for key, child in node.children.items():
            yield from walk(child, path + key)

    for root in engine.kv._index._roots.values():
        yield from walk(root, ())


@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_mixed_batches(data: st.DataObject, checkpoint: Path, phone: Path) -> None:
    """Chunked prefill, preemption, prefix hits, stops and penalties, with drafts right and wrong in any order."""
    folder = data.draw(st.sampled_from([checkpoint, phone]))
    draw = random.Random(data.draw(st.integers(0, 10**6)))
    options = {
        "max_batch_tokens": data.draw(st.sampled_from([17, 64, 1024])),
        "kv_cache_bytes": data.draw(st.sampled_from([26, 400])) * 16 * 4096,
        "prefix_caching": data.draw(st.booleans()),
        "native_decode": data.draw(st.booleans()),
    }
    asked: Asked = [
        (draw.randrange(len(REQUESTS)), draw.choice(WAYS), draw.choice([1, 1, 2]), draw.randrange(4))
        for _ in range(data.draw(st.integers(1, 6)))
    ]
    off = Driver(engine_of(folder, speculation=False, **options))
    expected = run(off, asked)
    on = Driver(engine_of(folder, **options))
    guesser = guess(on.engine, {k: v[0] for k, v in expected.items()}, draw, 3, data.draw(st.sampled_from([0.0, 0.4])))
    assert run(on, asked) == expected
    assert on.engine.accepted_tokens <= guesser.drafted
    for driver in (on, off):
        driver.engine.close()
    assert on.engine.decode_steps + on.engine.accepted_tokens == off.engine.decode_steps + off.engine.accepted_tokens


def test_the_index_never_holds_a_rejected_token(folder: Path) -> None:
    """Every indexed chain is the beginning of some prompt with its answer, although most drafts were wrong."""
    sampling = msgspec.structs.replace(GREEDY, frequency_penalty=0.2, max_tokens=50)
    asked: Asked = [(which, sampling, 1, 2) for which in range(len(REQUESTS))]
    off = Driver(engine_of(folder, speculation=False))
    expected = run(off, asked)
    on = Driver(engine_of(folder))
    whole: dict[str, list[int]] = {}
    finish = on.engine.scheduler.finish

    def finished(sequence: Any) -> None:
        end = len(sequence.token_ids)
        identities = [sighted_identity(t, sequence.sight_at(i)) for i, t in enumerate(sequence.token_ids)]
        assert sequence.identities[sequence.prompt_len : end] == identities[sequence.prompt_len :]
        whole[sequence.request_id] = list(sequence.identities)
        finish(sequence)

    on.engine.scheduler.finish = finished  # type: ignore[method-assign]
    guesser = guess(on.engine, {k: v[0] for k, v in expected.items()}, random.Random(1), 3, 0.6)
    assert run(on, asked) == expected
    assert guesser.drafted > 2 * on.engine.accepted_tokens > 0
    found = list(chains(on.engine))
    assert found
    for chain in found:
        assert any(tuple(tokens[: len(chain)]) == chain for tokens in whole.values())
    # And the KV behind them is right: the same questions again, all from the cache.
    again = [on.ask(REQUESTS[which], GREEDY).tokens for which in range(len(REQUESTS))]
    assert again == [off.ask(REQUESTS[which], GREEDY).tokens for which in range(len(REQUESTS))]


@pytest.mark.parametrize("steps", range(1, 6))
def test_cancelled_among_drafts(checkpoint: Path, steps: int) -> None:
    off = Driver(engine_of(checkpoint, speculation=False))
    expected = run(off, [(1, GREEDY, 2, 0)])
    on = Driver(engine_of(checkpoint))
    guess(on.engine, {k: v[0] for k, v in expected.items()}, random.Random(steps), 3, 0.3)
    request = on.submit(REQUESTS[1], GREEDY, n=2)
    for _ in range(3 + steps):
        on.step()
    on.engine.cancel(request)
    on.drain()
    assert not on.engine.scheduler.running
    on.engine.check_integrity()


def test_its_own_drafts(folder: Path) -> None:
    """Without help: what was answered before is drafted, and all of it is right."""
    on, off = (Driver(engine_of(folder, speculation=switch)) for switch in (True, False))
    on.engine.clock = itertools.count().__next__  # a step costs the same whatever its rows: drafts always pay
    steps = []
    for _ in range(3):
        before = on.engine.steps
        assert on.ask(REQUESTS[3], WAYS[1]).tokens == off.ask(REQUESTS[3], WAYS[1]).tokens
        steps.append(on.engine.steps - before)
    assert steps[-1] < steps[0]
    stats, usage = on.engine.stats(), on.results["3", 0].finish
    assert usage is not None
    assert 0 < usage.usage.accepted_tokens <= usage.usage.drafted_tokens <= stats.drafted_tokens
    assert stats.acceptance_rate == stats.accepted_tokens / stats.drafted_tokens
    assert stats.tokens_per_step == pytest.approx((stats.generated_tokens - 3) / stats.decode_steps)
    assert off.engine.stats().drafted_tokens == 0
    assert off.engine.stats().tokens_per_step == 1


def test_answers_of_one_salt_are_no_drafts_for_another(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint))
    driver.engine.clock = itertools.count().__next__
    for _ in range(3):
        driver.ask(REQUESTS[0], GREEDY, cache_salt="a")
    assert driver.engine.accepted_tokens > 0
    before = driver.engine.speculator
    assert before is not None
    assert before.answers.of("b") is None
    drafted = before.drafted
    driver.ask(REQUESTS[0], msgspec.structs.replace(GREEDY, max_tokens=6), cache_salt="b")
    assert before.drafted == drafted  # too short to repeat itself, and nothing else is known


def test_the_grammar_is_known_from_the_first_answer_on(checkpoint: Path) -> None:
    engine = engine_of(checkpoint, draft_examples=[ANSWER[ANSWER.index("<answer>") :]] * 2)
    speculator = engine.speculator
    assert speculator is not None
    engine.submit_prompt("1", engine.prompts.build(REQUESTS[0]), GREEDY)
    (sequence,) = engine._live["1"]
    whole = engine.prompts.tokenizer.encode(ANSWER[ANSWER.index("<answer>") :])
    for token in whole[:8]:
        sequence.append(token, token)
    outlook = speculator._outlook(sequence)
    outlook.catch_up(sequence.token_ids, speculator.rates)
    assert [token for _, token in outlook.guess(4, speculator.rates)] == whole[8:12]
    engine.cancel("1")
    engine.check_integrity()
