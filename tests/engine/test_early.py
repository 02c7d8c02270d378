"""Images encoded before their prompts are there: what may start when, what it costs others, and that answers stay."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from autoglm.engine import Engine, EngineConfig
from autoglm.messages import Failed, ImagePart
from autoglm.synthetic import make_phone_checkpoint
from tests.engine.harness import GREEDY, Driver, engine_of, screen, user

A, B, C = (screen(i, 56, 84) for i in range(3))
SHORT = msgspec.structs.replace(GREEDY, max_tokens=4, ignore_eos=True)
LONG = msgspec.structs.replace(GREEDY, max_tokens=40, ignore_eos=True)
PATCHES = 48  # of a screen, which is enlarged to the least size: 8 x 6


class Gate:
    """Holds prompt workers before they tokenise, until :meth:`let`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.waiting = 0
        self._tickets, self._lock = threading.Semaphore(0), threading.Lock()
        encode = engine.prompts.tokens.encode

        def held(text: str) -> list[int]:
            if threading.current_thread().name.startswith("prompt"):
                self._count(1)  # its images are there by now
                assert self._tickets.acquire(timeout=60)
                self._count(-1)
            return encode(text)

        setattr(engine.prompts.tokens, "encode", held)  # noqa: B010 - the type checker knows it as a method

    def _count(self, change: int) -> None:
        with self._lock:
            self.waiting += change

    def let(self, builds: int = 1) -> None:
        """So many go on."""
        self._tickets.release(builds)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def encode_early(engine: Engine, images: int) -> None:
    """Step until so many images are encoded; no prompt is there yet."""
    until(lambda: engine.can_step)
    while engine.stats().early_encodes < images:
        until(lambda: engine.can_step)
        assert not engine.step()
    until(lambda: not engine.runner.encoder.busy)
    engine.check_integrity()


@pytest.fixture(scope="module", params=["glm4v", "phone"])
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "phone":
        return make_phone_checkpoint(tmp_path_factory.mktemp("phone"))
    path: Path = request.getfixturevalue("checkpoint")
    return path


def test_the_tower_starts_before_the_text_and_nothing_else_changes(layout: Path) -> None:
    on, off = (Driver(engine_of(layout, early_encode=value)) for value in (True, False))
    gate = Gate(on.engine)
    messages = [user(A, "open")]
    request = on.submit(messages, SHORT)
    encode_early(on.engine, 1)
    assert on.engine.admission.pending == 1
    gate.let()
    on.drain()
    assert on.results[request, 0].tokens == off.ask(messages, SHORT).tokens
    ours, theirs = on.engine.stats(), off.engine.stats()
    assert (ours.early_encodes, ours.early_used, ours.early_wasted) == (1, 1, 0)
    assert theirs.early_encodes == 0
    assert on.engine.visual.counters == off.engine.visual.counters
    assert ours.steps == theirs.steps


def test_a_prompt_that_comes_during_the_encoding_waits_for_it(tmp_path: Path) -> None:
    """Layout ``autoglm_phone``: what is under way on the image thread is not encoded again."""
    driver = Driver(engine_of(make_phone_checkpoint(tmp_path)))
    engine = driver.engine
    go = threading.Event()
    encode = engine.runner.encoder._encode
    calls: list[int] = []

    def slow(pixels: list[object], grids: list[object]) -> object:
        calls.append(len(grids))
        assert go.wait(60)
        return encode(pixels, grids)

    engine.runner.encoder._encode = slow
    gate = Gate(engine)
    request = driver.submit([user(A, B, "open")], SHORT)
    until(lambda: engine.can_step)
    engine.step()
    assert engine.runner.encoder.busy
    gate.let()
    until(lambda: engine.admission.has_ready)
    release = threading.Timer(0.1, go.set)  # by then the step waits
    release.start()
    driver.drain()
    release.join()
    assert len(driver.results[request, 0].tokens) == 4
    assert sum(calls) == 2 == engine.visual.counters.misses


def test_a_refused_prompt_leaves_features_for_the_next(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, context_length=64))
    gate = Gate(driver.engine)
    request = driver.submit([user(A, "open it " * 80)], SHORT)
    encode_early(driver.engine, 1)
    gate.let(2)
    driver.drain()
    failed = driver.results[request, 0].failed
    assert isinstance(failed, Failed)
    assert failed.error.kind == "context_length_exceeded"
    assert driver.ask([user(A, "open")], SHORT).finish is not None
    stats = driver.engine.stats()
    assert (stats.early_encodes, stats.early_used) == (1, 1)


def test_a_cancelled_prompt_leaves_nothing_to_do(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, encoder_patches=PATCHES))
    engine, gate = driver.engine, Gate(driver.engine)
    request = driver.submit([user(A, B, "open")], SHORT)
    until(lambda: len(engine.admission.decoded) == 2)
    engine.step()
    assert engine.stats().early_encodes == 1
    engine.cancel(request)
    engine.step()
    assert not engine.admission.decoded
    assert not engine.can_step
    assert engine.stats().early_encodes == 1
    gate.let()
    driver.drain()


def test_decoding_is_held_up_by_the_budget_of_a_step_at_most(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, encoder_patches=PATCHES, speculation=False))
    engine = driver.engine
    running = driver.submit([user("look")], LONG)
    while not driver.results:
        driver.step()
    gate = Gate(engine)
    driver.submit([user(A, B, C, "open")], SHORT)
    until(lambda: len(engine.admission.decoded) == 3)
    for images in (1, 2, 3):
        before = len(driver.results[running, 0].tokens)
        driver.step()
        assert len(driver.results[running, 0].tokens) == before + 1
        assert engine.stats().early_encodes == images
    gate.let()
    driver.drain()
    assert engine.stats().early_used == 3


def test_prompts_that_are_there_come_first(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint, max_batch_tokens=16))
    engine, gate = driver.engine, Gate(driver.engine)
    driver.submit([user(A, "open")], SHORT)
    until(lambda: len(engine.admission.decoded) == 1)
    prompt = engine.prompts.build([user("look at this " * 20)])
    engine.submit_prompt("first", prompt, SHORT)
    driver.step()
    assert engine.scheduler.running[0].remaining > 1
    assert engine.stats().early_encodes == 0
    gate.let()
    driver.drain()


def test_a_screen_that_was_shown_is_not_encoded_early(checkpoint: Path) -> None:
    """Its KV may be there, and its features need not be: here they are evicted and nobody asks for them."""
    driver = Driver(engine_of(checkpoint))
    first = [user(A, "open")]
    driver.ask(first, SHORT)
    driver.engine.visual.drop(("", driver.engine.prompts.images.process(A).digest))
    driver.engine.visual.capacity_bytes = 1
    driver.ask([user(B, "open")], SHORT)
    assert not len(driver.engine.visual)
    driver.engine.visual.capacity_bytes = 2**20
    before, misses = driver.engine.stats().early_encodes, driver.engine.visual.counters.misses
    gate = Gate(driver.engine)
    request = driver.submit([*first, user("go on")], SHORT)
    until(lambda: bool(driver.engine.admission.decoded))
    driver.engine.step()
    gate.let()
    driver.drain()
    assert driver.results[request, 0].cached > PATCHES // 4
    assert (driver.engine.stats().early_encodes, driver.engine.visual.counters.misses) == (before, misses)


def test_the_same_screen_twice_in_flight_is_encoded_once(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint))
    gate = Gate(driver.engine)
    requests = [driver.submit([user(A, text)], SHORT) for text in ("open", "close")]
    until(lambda: len(driver.engine.admission.decoded) == 2)
    encode_early(driver.engine, 1)
    driver.engine.cancel(requests[0])
    gate.let(2)
    driver.drain()
    stats = driver.engine.stats()
    assert (stats.early_encodes, stats.early_used) == (1, 1)
    assert driver.engine.visual.counters.misses == 1


def test_a_damaged_image_is_refused_as_without(checkpoint: Path) -> None:
    errors = []
    for value in (True, False):
        driver = Driver(engine_of(checkpoint, early_encode=value))
        message = user(A, B[:60], C, "open")
        assert isinstance(message.content[1], ImagePart)
        failed = driver.ask([message], SHORT).failed
        assert failed is not None
        errors.append(failed.error)
    assert errors[0] == errors[1]
    assert errors[0].field == "messages[0].content[1]"


@pytest.mark.parametrize(
    "options",
    [
        {"early_encode": False},
        {"visual_cache_bytes": 0},
        {"tensor_parallel_size": 2},
        {"pipeline_parallel_size": 2},
        {"host_kv_bytes": 2**20, "kv_disk_directory": "/nowhere"},
    ],
)
def test_off(options: dict[str, object]) -> None:
    assert EngineConfig().encodes_early
    assert not EngineConfig(**options).encodes_early  # type: ignore[arg-type]
