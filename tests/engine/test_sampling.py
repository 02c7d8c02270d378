"""Sampling against plain implementations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from autoglm.engine.sampling import SamplerState, best_at_once, sample, sample_row
from autoglm.messages import SamplingParams
from tests.engine.harness import GREEDY, Driver, engine_of, screen, user

VOCAB = 50
CPU = torch.device("cpu")


def state(prompt: tuple[int, ...] = (1, 2, 3), stops: tuple[int, ...] = (), **params: Any) -> SamplerState:
    return SamplerState(SamplingParams(**params), 0, prompt, VOCAB, stops, CPU)


def logits_of(seed: int) -> torch.Tensor:
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def plain_distribution(logits: torch.Tensor, temperature: float, top_k: int, top_p: float, min_p: float) -> list[float]:
    """By lists and loops."""
    probs = torch.softmax(logits.double() / temperature, -1).tolist()
    order = sorted(range(VOCAB), key=lambda i: -probs[i])
    if top_k:
        order = order[:top_k]
        total = sum(probs[i] for i in order)
        probs = [p / total if i in order else 0.0 for i, p in enumerate(probs)]
    kept, mass = [], 0.0
    for i in order:
        if kept and mass > top_p:
            break
        kept.append(i)
        mass += probs[i]
    best = max(probs)
    kept = [i for i in kept if probs[i] >= min_p * best]
    total = sum(probs[i] for i in kept)
    return [probs[i] / total if i in kept else 0.0 for i in range(VOCAB)]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 5, 49]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.1, 0.9]),
)
def test_distribution(seed: int, temperature: float, top_k: int, top_p: float, min_p: float) -> None:
    logits = logits_of(seed)
    sampler = state(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    ours = sampler._distribution(logits.clone())
    ours = ours / ours.sum()
    expected = torch.tensor(plain_distribution(logits, temperature, top_k, top_p, min_p))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_draws_follow_the_distribution() -> None:
    sampler = state(temperature=1.0, seed=5)
    logits = torch.full((VOCAB,), -100.0)
    logits[:4] = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    draws = torch.tensor([sampler.choose(logits.clone()).token for _ in range(4000)])
    shares = torch.bincount(draws, minlength=4)[:4] / 4000
    assert (shares - torch.tensor([0.1, 0.2, 0.3, 0.4])).abs().max() < 0.04


@pytest.mark.parametrize("temperature", [1e-6, 1e-3])
def test_tiny_temperature_is_greedy(temperature: float) -> None:
    logits = logits_of(1)
    assert state(temperature=temperature, seed=1).choose(logits.clone()).token == int(logits.argmax())


def test_frequency_and_presence_penalties() -> None:
    sampler = state(temperature=0.0, frequency_penalty=0.2, presence_penalty=0.5)
    for token in (7, 7, 9):
        sampler.record(token)
    expected = logits_of(2)
    expected[7] -= 2 * 0.2 + 0.5
    expected[9] -= 0.2 + 0.5
    actual = logits_of(2)
    sampler._adjust(actual)
    torch.testing.assert_close(actual, expected)


def test_repetition_penalty_equals_reference() -> None:
    sampler = state(prompt=(3, 4), temperature=0.0, repetition_penalty=1.3)
    sampler.record(8)
    actual = logits_of(3)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([[3, 4, 8]]), logits_of(3)[None])[0]
    sampler._adjust(actual)
    torch.testing.assert_close(actual, expected)


def test_logprobs_are_of_the_raw_distribution() -> None:
    sampler = state(temperature=0.0, logprobs=3, frequency_penalty=2.0, logit_bias={11: 50.0})
    choice = sampler.choose(logits_of(4))
    expected = torch.log_softmax(logits_of(4), -1)
    assert choice.token == 11
    assert choice.logprobs is not None
    assert choice.logprobs[0] == pytest.approx(float(expected[11]))
    values, ids = expected.topk(3)
    assert [i for i, _ in choice.logprobs[1]] == ids.tolist()
    assert [v for _, v in choice.logprobs[1]] == pytest.approx(values.tolist())


def test_stop_ids_are_forbidden_until_min_tokens() -> None:
    best = int(logits_of(5).argmax())
    sampler = state(stops=(best,), temperature=0.0, min_tokens=1)
    assert sampler.choose(logits_of(5)).token != best
    sampler.record(0)
    assert sampler.choose(logits_of(5)).token == best


def test_rows_do_not_influence_each_other() -> None:
    def fresh() -> list[SamplerState]:
        return [
            state(temperature=0.8, seed=1),
            state(temperature=0.0),
            state(temperature=1.2, seed=2, top_p=0.7),
            state(temperature=0.0, frequency_penalty=1.0),
        ]

    logits = torch.stack([logits_of(i) for i in range(4)])
    together = [c.token for c in sample(logits.clone(), fresh())]
    alone = [sample(logits[i : i + 1].clone(), [s])[0].token for i, s in enumerate(fresh())]
    assert together == alone


def test_seed_fixes_an_answer_whatever_else_runs(checkpoint: Path) -> None:
    sampling = SamplingParams(temperature=0.9, seed=42, max_tokens=16)
    quiet = Driver(engine_of(checkpoint)).ask([user("tell me")], sampling)
    busy = Driver(engine_of(checkpoint, max_batch_tokens=40))
    for i in range(4):
        busy.submit([user(f"noise {i}", screen(i))], SamplingParams(temperature=1.0, max_tokens=10))
    request_id = busy.submit([user("tell me")], sampling)
    busy.drain()
    assert busy.results[request_id, 0].tokens == quiet.tokens


def test_choices_of_a_seed_differ(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint))
    request_id = driver.submit([user("tell me")], SamplingParams(temperature=1.5, seed=1, max_tokens=16), n=3)
    driver.drain()
    assert len({tuple(driver.results[request_id, i].tokens) for i in range(3)}) == 3


def test_stop_strings_ids_and_length(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint))
    plain = driver.ask([user("Hi")], msgspec.structs.replace(GREEDY, ignore_eos=True, max_tokens=24))
    assert plain.finish is not None
    assert plain.finish.reason == "length"
    assert plain.finish.usage.completion_tokens == 24
    middle = len(plain.text) // 2
    stop = plain.text[middle : middle + 3]
    cut = driver.ask([user("Hi")], msgspec.structs.replace(GREEDY, ignore_eos=True, max_tokens=24, stop=(stop,)))
    assert cut.text == plain.text[: plain.text.index(stop)]
    assert cut.finish is not None
    assert (cut.finish.reason, cut.finish.matched) == ("stop", stop)
    kept = driver.ask(
        [user("Hi")],
        msgspec.structs.replace(GREEDY, ignore_eos=True, max_tokens=24, stop=(stop,), include_stop_in_output=True),
    )
    assert kept.text == cut.text + stop
    by_id = driver.ask([user("Hi")], msgspec.structs.replace(GREEDY, stop_token_ids=(plain.tokens[0],)))
    assert by_id.text == ""
    assert by_id.finish is not None
    assert (by_id.finish.reason, by_id.finish.matched) == ("stop", plain.tokens[0])


def test_the_answer_tag_ends_and_is_not_shown(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint))
    end = driver.engine.prompts.tokenizer.token_id("</answer>")
    assert end in driver.engine.model.stop_token_ids
    result = driver.ask([user("Hi")], msgspec.structs.replace(GREEDY, logit_bias={end: 100.0}))
    assert result.text == ""
    assert result.tokens == [end]


@settings(max_examples=60, deadline=None)
@given(
    drafts=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4),
    before=st.lists(st.integers(0, 6), max_size=8),
    frequency=st.sampled_from([0.0, 0.2, 1.5]),
    presence=st.sampled_from([0.0, 0.5]),
    drawn=st.sets(st.integers(0, 3)),
    seed=st.integers(0, 999),
)
def test_all_rows_at_once_as_one_by_one(
    drafts: list[list[int]], before: list[int], frequency: float, presence: float, drawn: set[int], seed: int
) -> None:
    rows = sum(len(draft) + 1 for draft in drafts)
    logits = torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed))
    states = []
    for index in range(len(drafts)):
        temperature = 1.0 if index in drawn else 0.0
        one = state(temperature=temperature, seed=1, frequency_penalty=frequency, presence_penalty=presence)
        for token in before:
            one.record(token)
        states.append(one)
    found = best_at_once(logits.clone(), list(zip(states, drafts, strict=True)))
    row = 0
    for index, (one, draft) in enumerate(zip(states, drafts, strict=True)):
        assert (found[index] is None) == (index in drawn)
        for place, token in enumerate((*draft, -1)):
            if (tokens := found[index]) is not None:
                assert tokens[place] == sample_row(logits.clone(), row + place, one).token
                one.record(token)
        row += len(draft) + 1
