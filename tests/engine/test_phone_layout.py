"""The described layout through the engine: the library's tokens, warm as cold, text reused across screens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autoglm.library import AutoGLMPhone, EncodedImage
from autoglm.messages import ChatMessage, SamplingParams
from tests.engine.harness import Driver, engine_of, screen, user
from tests.engine.test_never_another_image import PAIRS, check_warm_equals_cold

SYSTEM = ChatMessage("system", "You operate a phone. " * 6)
A, B = screen(1), screen(2)
DIALOGUE = [
    [SYSTEM, user(A, "open the shop")],
    [SYSTEM, user("open the shop"), ChatMessage("assistant", "do(action='Launch')"), user(B, "next")],
    [
        SYSTEM,
        user("open the shop"),
        ChatMessage("assistant", "do(action='Launch')"),
        user("next"),
        ChatMessage("assistant", "do(action='Back')"),
        user(A, "and now"),
    ],
]


@pytest.mark.parametrize("budget", [7, 512])
def test_engine_gives_the_librarys_tokens(phone: Path, budget: int) -> None:
    driver = Driver(engine_of(phone, max_batch_tokens=budget))
    model = driver.engine.model
    library = AutoGLMPhone(model)
    sampling = SamplingParams(temperature=0.0, max_tokens=10)
    for messages in [*DIALOGUE, [user("hi")], [user(A, B, "which")]]:
        prompt = driver.engine.prompts.build(messages)
        with torch.inference_mode():
            encoded = model.encode_images(
                [torch.from_numpy(p.image.pixels) for p in prompt.images], [p.image.grid for p in prompt.images]
            )
        images = [EncodedImage(f, p.image.grid, 1) for f, p in zip(encoded, prompt.images, strict=True)]
        expected = library.generate(images, torch.tensor(prompt.token_ids), 10).tolist()
        tokens = driver.ask(messages, sampling).tokens
        assert [t for t in tokens if t not in model.stop_token_ids] == expected


@pytest.mark.parametrize("name", PAIRS)
def test_warm_equals_cold(phone: Path, name: str) -> None:
    check_warm_equals_cold(phone, name)


def test_text_is_reused_whatever_the_screen_shows(phone: Path) -> None:
    driver = Driver(engine_of(phone))
    driver.ask(DIALOGUE[0])
    for messages in DIALOGUE[1:]:
        assert driver.ask(messages).cached > 0
        changed = [*messages[:-1], user(screen(9), "next")]
        text_only = len(driver.engine.prompts.build(messages[:-1]).token_ids) - 2  # without the generation prompt
        assert driver.ask(changed).cached >= text_only


def test_an_image_is_encoded_once(phone: Path) -> None:
    driver = Driver(engine_of(phone))
    for messages in ([user(A, "open")], [user("x", A, "close")], [SYSTEM, user(A, "open")]):
        driver.ask(messages)
    assert driver.engine.visual.counters.misses == 1


def test_dual_streams_change_nothing_but_the_order(phone: Path) -> None:
    both, one = (
        Driver(engine_of(phone, dual_streams=on, max_batch_tokens=40, early_encode=False)) for on in (True, False)
    )
    seen: list[bool] = []
    encode = both.engine.model.run_streams

    def spy(*args: Any, parallel: bool) -> Any:
        seen.append(parallel)
        return encode(*args, parallel=parallel)

    both.engine.model.run_streams = spy
    for messages in DIALOGUE:
        assert both.ask(messages).tokens == one.ask(messages).tokens
    # Side by side exactly when there is a screen to encode.
    assert sum(seen) == both.engine.visual.counters.misses > 0
