"""The engine's tokens do not depend on who decodes: kernels or torch; exact and packed weights, both layouts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from autoglm.engine import Engine
from autoglm.errors import InvalidInputError
from autoglm.messages import ChatMessage, SamplingParams
from tests.engine.harness import GREEDY, Driver, engine_of, screen, user

PENALISED = SamplingParams(temperature=0.0, frequency_penalty=0.2, max_tokens=30, ignore_eos=True)
SYSTEM = ChatMessage("system", "You operate a phone. " * 4)
REQUESTS = [
    [user("Hi")],
    [SYSTEM, user(screen(1), "open the shop")],
    [SYSTEM, user(screen(1), "and", screen(2, 56, 224), "compare")],
    [SYSTEM, user("open the shop"), ChatMessage("assistant", "do(action='Back')"), user(screen(3), "next")],
    [SYSTEM, user(screen(4), "look"), ChatMessage("assistant", "done"), user("go on")],
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOGLM_CACHE_DIR", str(tmp_path))


def steps_of(engine: Engine) -> list[int]:
    """Rows of each step the kernels ran, from now on."""
    rows: list[int] = []
    decode = engine.runner._decode
    assert decode is not None
    run = decode._decoder.run

    def counted() -> object:
        rows.append(decode._decoder._count)
        return run()

    decode._decoder.run = counted  # type: ignore[assignment]
    return rows


def answers(driver: Driver) -> dict[str, list[int]]:
    ids = [driver.submit(messages, PENALISED) for messages in REQUESTS]
    driver.drain()
    return {request_id: driver.results[request_id, 0].tokens for request_id in ids}


def test_a_batch_on_and_off(folder: Path) -> None:
    on, off = (Driver(engine_of(folder, native_decode=native, max_batch_tokens=64)) for native in (True, False))
    rows = steps_of(on.engine)
    assert off.engine.runner._decode is None
    assert answers(on) == answers(off)
    assert max(rows) >= len(REQUESTS)  # drafts are rows, too


def test_prefill_on_and_off(folder: Path) -> None:
    on, off = (Driver(engine_of(folder, native_prefill=native, max_batch_tokens=64)) for native in (True, False))
    models = [driver.engine.runner.model for driver in (on, off)]
    assert [model.decoder.kernels is not None for model in models] == [True, False]
    assert [model.visual.blocks.kernels is not None for model in models] == [True, False]
    assert answers(on) == answers(off)


def test_preempted_rows_come_back(folder: Path) -> None:
    blocks = 13 if folder.name.startswith("phone") else 26  # a token of the phone layout takes half the bytes
    drivers = [
        Driver(engine_of(folder, native_decode=native, kv_cache_bytes=blocks * 16 * 4096)) for native in (True, False)
    ]
    rows = steps_of(drivers[0].engine)
    sampling = msgspec.structs.replace(PENALISED, max_tokens=60)
    found = []
    for driver in drivers:
        ids = [driver.submit([user(f"question {i} " * 6, screen(i))], sampling) for i in range(6)]
        driver.drain()
        found.append([driver.results[i, 0].tokens for i in ids])
    assert found[0] == found[1]
    assert drivers[0].engine.scheduler.preemptions > 0
    assert rows


@pytest.mark.parametrize("scheme", ["none", "int8"])
def test_huge_pages_on_and_off(folder: Path, scheme: str) -> None:
    on, off = (Driver(engine_of(folder, huge_pages=huge, quantization=scheme)) for huge in (True, False))
    assert [on.ask(m, GREEDY).tokens for m in REQUESTS[:3]] == [off.ask(m, GREEDY).tokens for m in REQUESTS[:3]]


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_packed_weights_on_and_off(folder: Path, scheme: str) -> None:
    on, off = (
        Driver(engine_of(folder, native_decode=native, quantization=scheme, integer_products=False))
        for native in (True, False)
    )
    assert [on.ask(m, GREEDY).tokens for m in REQUESTS[:3]] == [off.ask(m, GREEDY).tokens for m in REQUESTS[:3]]
    assert on.engine.info().parameters == Driver(engine_of(folder)).engine.info().parameters


def test_int8_needs_the_cpu(checkpoint: Path) -> None:
    with pytest.raises(InvalidInputError, match="int8 works on the CPU"):
        engine_of(checkpoint, quantization="int8", device="cuda")
