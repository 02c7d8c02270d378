"""Drafting changes nothing but the number of steps."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from autoglm.messages import ChatMessage, SamplingParams
from autoglm.synthetic import make_phone_checkpoint
from tests.engine.harness import Driver, engine_of, screen, user

LONG = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
ANSWER = '<think>the shop is on the screen</think><answer>do(action="Tap", element=[500,200])</answer>'
SYSTEM = ChatMessage("system", "You operate a phone. " * 4)
HISTORY = [SYSTEM, user("open the shop"), ChatMessage("assistant", ANSWER)]


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phone_checkpoint(tmp_path_factory.mktemp("phone"))


@pytest.fixture(params=["glm4v", "autoglm_phone"])
def folder(request: pytest.FixtureRequest, checkpoint: Path, phone: Path) -> Path:
    return checkpoint if request.param == "glm4v" else phone


def test_tokens(folder: Path) -> None:
    on, off = (Driver(engine_of(folder, speculation=on)) for on in (True, False))
    for i in range(4):
        messages = [*HISTORY, user(screen(i % 2), "go on")]
        sampling = msgspec.structs.replace(LONG, frequency_penalty=0.2 * (i % 3))
        assert on.ask(messages, sampling).tokens == off.ask(messages, sampling).tokens
    print(on.engine.stats())
    assert on.engine.steps < off.engine.steps
