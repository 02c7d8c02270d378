"""Whole engines on the fused layers: tokens of the modules', in Triton's interpreter where there is no CUDA."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoglm.engine import Engine
from autoglm.messages import ChatMessage, SamplingParams
from autoglm.model.cuda.layers import FusedBlocks, FusedLayers, fuse
from autoglm.synthetic import make_phone_checkpoint
from tests.engine.harness import Driver, engine_of, screen, user

SAMPLING = SamplingParams(temperature=0.0, frequency_penalty=0.2, max_tokens=3, ignore_eos=True)
REQUESTS = [[user("Hi")], [user(screen(1, 56, 84), "open"), ChatMessage("assistant", "done"), user("go on")]]


def modules_only(folder: Path) -> Engine:
    """One after the other, too: the interpreter runs on one thread."""
    options = {"native_decode": False, "fused_layers": False, "dual_streams": False}
    return engine_of(folder, decode_graphs="eager", max_batch_tokens=32, **options)


def answers(engine: Engine) -> list[list[int]]:
    driver = Driver(engine)
    ids = [driver.submit(messages, SAMPLING) for messages in REQUESTS]
    driver.drain()
    return [driver.results[request_id, 0].tokens for request_id in ids]


@pytest.mark.parametrize("layout", ["glm4v", "autoglm_phone"])
def test_tokens_of_the_modules(layout: str, checkpoint: Path, tmp_path: Path) -> None:
    folder = checkpoint if layout == "glm4v" else make_phone_checkpoint(tmp_path)
    expected = answers(modules_only(folder))
    engine = modules_only(folder)
    assert fuse(engine.model)
    assert isinstance(engine.model.decoder.kernels, FusedLayers)
    assert isinstance(engine.model.visual.blocks.kernels, FusedBlocks)
    assert answers(engine) == expected


def test_layers_that_differ_are_not_used(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = modules_only(checkpoint)
    wrong = torch.zeros(3, 1000)
    monkeypatch.setattr("autoglm.model.cuda.fused_kernels.silu_mul", wrong.to)
    assert not fuse(engine.model)
    assert engine.model.decoder.kernels is None
