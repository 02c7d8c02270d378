"""Whole engines on a CUDA device: greedy tokens of the CPU's engine, with each part of the device's path on and off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autoglm.engine.static_decode import StaticDecode
from autoglm.messages import ChatMessage, SamplingParams
from tests.engine import test_static_decode
from tests.engine.harness import Driver, engine_of, screen, user
from tests.engine.test_host_kv import pool

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

PENALISED = SamplingParams(temperature=0.0, frequency_penalty=0.2, max_tokens=24, ignore_eos=True)
REQUESTS = [*test_static_decode.REQUESTS, [user(screen(5), "look again")]]
ON: dict[str, Any] = {"device": "cuda", "dtype": "float32"}
FORMS: dict[str, dict[str, Any]] = {
    "all on": {},
    "gathered": {"paged_attention": "gather"},
    "kernel": {"paged_attention": "kernel"},
    "not recorded": {"decode_graphs": "off", "encoder_graphs": 0},
    "eager": {"decode_graphs": "eager"},
    "no paged attention": {"paged_attention": "off"},
    "streams one after the other": {"dual_streams": False},
    "layers not fused": {"fused_layers": False},
    "no drafts": {"speculation": False},
}


@pytest.fixture(autouse=True)
def exact_products() -> None:
    """Products in full float32: a greedy token must not hang on the rounding of TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def answers(driver: Driver) -> list[list[int]]:
    """All at once, then the first again: what is cached is used, and recorded encoders are replayed."""
    ids = [driver.submit(messages, PENALISED) for messages in REQUESTS]
    driver.drain()
    ids.append(driver.submit(REQUESTS[1], PENALISED))
    driver.drain()
    return [driver.results[request_id, 0].tokens for request_id in ids]


@pytest.mark.parametrize("form", FORMS)
def test_tokens_of_the_cpu(folder: Path, form: str) -> None:
    cpu = Driver(engine_of(folder, max_batch_tokens=128, device="cpu"))
    driver = Driver(engine_of(folder, max_batch_tokens=128, **(ON | FORMS[form])))
    assert answers(driver) == answers(cpu)
    static = driver.engine.runner._decode
    if isinstance(static, StaticDecode):
        assert not static.recordings.refused
        assert len(static.recordings) > 0


@pytest.mark.parametrize("scheme", ["fp8", "int4"])
def test_packed_weights_run_and_repeat(
    folder: Path, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOGLM_CACHE_DIR", str(tmp_path))
    options = {"device": "cuda", "quantization": scheme, "dtype": "float32"}
    first = Driver(engine_of(folder, **options))
    second = Driver(engine_of(folder, **options))  # from the packed store
    for messages in REQUESTS:  # one at a time: products of other shapes round otherwise
        assert first.ask(messages, PENALISED).tokens == second.ask(messages, PENALISED).tokens
    static = first.engine.runner._decode
    assert isinstance(static, StaticDecode)
    assert not static.recordings.refused


def test_blocks_come_back_from_pinned_memory(folder: Path) -> None:
    first = [ChatMessage("system", "You operate a phone. " * 12), user(screen(7, 56, 84), "open the shop")]
    alone = Driver(engine_of(folder, **ON)).ask(first, PENALISED).tokens
    host = {"host_kv_bytes": 16 * 2**20, "host_kv_min_blocks": 1, "kv_cache_bytes": pool(folder, 24, **ON)}
    driver = Driver(engine_of(folder, **ON, **host))
    assert driver.ask(first, PENALISED).tokens == alone
    for index in range(4):
        driver.ask([user(f"{index} " * 100)], PENALISED)
    assert driver.ask(first, PENALISED).tokens == alone
    assert {cache.name: cache for cache in driver.engine.stats().caches}["kv_host"].hits > 0
