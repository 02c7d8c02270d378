"""Greedy tokens against the reference implementation, with every cache and every cut."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Glm4vForConditionalGeneration

from autoglm.messages import ChatMessage, SamplingParams
from autoglm.synthetic import make_checkpoint
from tests.engine.harness import Driver, engine_of, reference_tokens, screen, user

COUNT = 12
SYSTEM = ChatMessage("system", "You are an agent that operates a phone. " * 5)
DIALOGUES = {
    "text": [user("Hi")],
    "string content": [SYSTEM, ChatMessage("user", "open the settings")],
    "one image": [SYSTEM, user(screen(1), "open the settings")],
    "several images": [user(screen(1), "and", screen(2, 56, 224), screen(3), "compare")],
    "image in an earlier turn": [user(screen(4), "look"), ChatMessage("assistant", "<think>a</think>"), user("go on")],
}


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Any:
    """The reference implementation on the same files."""
    return Glm4vForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()


@pytest.mark.parametrize("rows", [5, 64, 1024])
@pytest.mark.parametrize("name", DIALOGUES)
def test_greedy(checkpoint: Path, reference: Any, name: str, rows: int) -> None:
    driver = Driver(engine_of(checkpoint, max_batch_tokens=rows))
    prompt = driver.engine.prompts.build(DIALOGUES[name])
    expected = reference_tokens(reference, prompt, COUNT)
    for _ in range(2):  # the second time everything but one token is a hit
        result = driver.ask(DIALOGUES[name])
        assert result.tokens == expected
    assert result.cached == len(prompt.token_ids) - 1


def phone_dialogue(steps: int) -> list[list[ChatMessage]]:
    """Requests as the client sends them: only the newest turn has its image."""
    requests: list[list[ChatMessage]] = []
    history = [SYSTEM]
    for step in range(steps):
        text = f"** Screen Info **\n\n{{'current_app': 'app {step}'}}"
        requests.append([*history, user(screen(step), text)])
        history += [
            user(text),
            ChatMessage("assistant", f"<think>step {step}</think><answer>do(action='Back')</answer>"),
        ]
    return requests


def test_dialogue_with_dropped_images(checkpoint: Path, reference: Any) -> None:
    driver = Driver(engine_of(checkpoint))
    previous: list[int] = []
    for messages in phone_dialogue(6):
        prompt = driver.engine.prompts.build(messages)
        result = driver.ask(messages)
        assert result.tokens == reference_tokens(reference, prompt, COUNT)
        # Exact to the token: all that this prompt and the one before have in common.
        common = next(
            (i for i, (a, b) in enumerate(zip(previous, prompt.token_ids, strict=False)) if a != b), len(previous)
        )
        if previous:
            assert result.cached == common > 0
        previous = prompt.token_ids


def test_preemption(checkpoint: Path, reference: Any) -> None:
    requests = [[user(f"question {i} " * 8, screen(i))] for i in range(6)]
    # Room for about two of them at once.
    driver = Driver(engine_of(checkpoint, kv_cache_bytes=16 * 16 * 4096))
    sampling = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
    ids = [driver.submit(messages, sampling) for messages in requests]
    driver.drain()
    assert driver.engine.scheduler.preemptions > 0
    for request_id, messages in zip(ids, requests, strict=True):
        prompt = driver.engine.prompts.build(messages)
        assert driver.results[request_id, 0].tokens == reference_tokens(reference, prompt, 40)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(data=st.data())
def test_sixteen_mixed_requests(data: st.DataObject, checkpoint: Path, reference: Any) -> None:
    rows = data.draw(st.sampled_from([17, 100, 1024]))
    blocks = data.draw(st.sampled_from([24, 400]))
    order = random.Random(data.draw(st.integers(0, 99)))
    driver = Driver(
        engine_of(checkpoint, max_batch_tokens=rows, kv_cache_bytes=blocks * 16 * 4096, encoder_patches=100)
    )
    every = list(DIALOGUES.values()) + phone_dialogue(3)
    requests = [order.choice(every) for _ in range(16)]
    ids: list[str] = []
    for messages in requests:
        ids.append(driver.submit(messages, priority=order.randrange(3)))
        for _ in range(order.randrange(4)):
            driver.step()
    driver.drain()
    for request_id, messages in zip(ids, requests, strict=True):
        prompt = driver.engine.prompts.build(messages)
        assert driver.results[request_id, 0].tokens == reference_tokens(reference, prompt, COUNT)


def test_choices_share_the_prompt(checkpoint: Path, reference: Any) -> None:
    driver = Driver(engine_of(checkpoint))
    messages = DIALOGUES["one image"]
    request_id = driver.submit(messages, n=3)
    driver.drain()
    prompt = driver.engine.prompts.build(messages)
    expected = reference_tokens(reference, prompt, COUNT)
    for index in range(3):
        assert driver.results[request_id, index].tokens == expected
    assert [driver.results[request_id, i].cached for i in range(3)] == [0] + 2 * [len(prompt.token_ids) - 1]


@pytest.mark.slow
def test_small_model(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "small")
    reference = Glm4vForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    driver = Driver(engine_of(tmp_path, kv_cache_bytes=256 * 2**20))
    for messages in (*DIALOGUES.values(), *phone_dialogue(4)):
        prompt = driver.engine.prompts.build(messages)
        assert driver.ask(messages).tokens == reference_tokens(reference, prompt, COUNT)
