"""Several ranks against one: the same tokens, and logits equal to rounding, whatever is in a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoglm.engine import Engine
from autoglm.errors import InvalidInputError
from autoglm.messages import ChatMessage, SamplingParams
from autoglm.model.quantized import check_packing
from autoglm.model.resolve import PACKAGED, resolve_checkpoint
from autoglm.synthetic import make_checkpoint, make_phone_checkpoint
from tests.engine.harness import Driver, engine_of, screen, user
from tests.engine.ranks.harness import replica, with_heads
from tests.model.native.models import phone_model

WORDS = ("Hi", "open the settings and turn on", "一二三", "What is on this screen?")
SCREENS = tuple(screen(seed) for seed in range(3))


@dataclass
class Pair:
    """One rank and several, on the same weights."""

    one: Engine
    many: Engine


def checkpoint_of(name: str, folder: Path, size: int, changes: dict[str, Any]) -> Path:
    if name == "packaged":
        return resolve_checkpoint(PACKAGED)
    made = make_checkpoint(folder / "made") if name == "glm4v" else make_phone_checkpoint(folder / "made")
    if "vision_parallel" in changes:
        return made  # its 2 heads need not be shared out over 4 ranks
    return with_heads(made, folder / "more", size)


KERNELS: dict[str, Any] = {"native_decode": True}
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "glm4v on 2, int8": ("glm4v", 2, {"quantization": "int8"}),
    "glm4v on 2, by image, int4, kernels over gloo": (
        "glm4v",
        2,
        KERNELS | {"vision_parallel": "data", "quantization": "int4", "shared_memory": False},
    ),
    "glm4v on 4, KV heads shared, by patch, kernels": ("glm4v", 4, KERNELS | {"vision_parallel": "sequence"}),
    "autoglm_phone on 2, by image": ("autoglm_phone", 2, {"vision_parallel": "data"}),
    "autoglm_phone on 4, KV heads shared, by patch, kernels": (
        "autoglm_phone",
        4,
        KERNELS | {"vision_parallel": "sequence"},
    ),
    "packaged on 2, nothing divides, int4, kernels": ("packaged", 2, KERNELS | {"quantization": "int4"}),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    name, size, changes = request.param
    checkpoint = checkpoint_of(name, tmp_path_factory.mktemp(name), size, changes)
    options: dict[str, Any] = {"max_batch_tokens": 48, "kv_cache_bytes": 4 * 2**20, "integer_products": False}
    packed = {"quantization": changes.get("quantization", "none")}
    one = engine_of(checkpoint, native_decode=False, **options, **packed)
    with replica(checkpoint, size, **options, **changes) as many:
        assert (many.runner._decode is not None) == changes.get("native_decode", False)
        yield Pair(one, many)
    one.close()


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[list[ChatMessage], SamplingParams, int]]:
    """Up to three conversations, each with its options and the steps that pass before it comes."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        parts: list[str | bytes] = [draw(st.sampled_from(WORDS))]
        if draw(st.booleans()):
            parts.insert(draw(st.integers(0, 1)), draw(st.sampled_from(SCREENS)))
        sampling = SamplingParams(
            temperature=draw(st.sampled_from([0.0, 0.9])), seed=7, max_tokens=draw(st.integers(1, 5)), ignore_eos=True
        )
        found.append(([user(*parts)], sampling, draw(st.integers(0, 3))))
    return found


def answers(engine: Engine, asked: list[tuple[list[ChatMessage], SamplingParams, int]]) -> list[list[int]]:
    driver = Driver(engine)
    ids = []
    for messages, sampling, steps in asked:
        ids.append(driver.submit(messages, sampling))
        for _ in range(steps):
            driver.step()
    driver.drain()
    return [driver.results[i, 0].tokens for i in ids]


@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(asked=requests())
def test_the_same_tokens(pair: Pair, asked: list[tuple[list[ChatMessage], SamplingParams, int]]) -> None:
    assert answers(pair.many, asked) == answers(pair.one, asked)


def test_the_same_logits(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step of text and images, and of the decode steps after it: within 1e-4 of one rank."""
    seen: list[list[torch.Tensor]] = []
    for engine in (pair.one, pair.many):
        monkeypatch.setattr(engine.scheduler, "_speculator", None)  # drafts would make rows of their own
        mine: list[torch.Tensor] = []
        seen.append(mine)
        run = engine.runner.run

        def recording(chunks: Any, run: Any = run, mine: list[torch.Tensor] = mine) -> torch.Tensor:
            logits: torch.Tensor = run(chunks)
            mine.append(logits.clone())
            return logits

        monkeypatch.setattr(engine.runner, "run", recording)
        greedy = SamplingParams(temperature=0.0, max_tokens=3, ignore_eos=True)
        assert len(answers(engine, [([user("a new question", SCREENS[2])], greedy, 0)])[0]) == 3
    first, second = (torch.cat(logits) for logits in seen)
    assert first.shape == second.shape == (3, pair.one.model.vocab_size)
    assert float((first - second).abs().max()) <= 1e-4
    assert float(first.std()) > 0.01  # they say something


def test_features_are_dropped_everywhere(pair: Pair) -> None:
    """What the cache of rank 0 evicts, the next step tells the others to forget."""
    runner: Any = pair.many.runner
    told: list[int] = []
    order = runner._group.order
    runner._group.order = lambda step: (told.extend(step.dropped), order(step))[1]
    try:
        pair.many.visual.capacity_bytes = 1
        for seed in (0, 1, 2, 0):
            Driver(pair.many).ask([user(SCREENS[seed], "see")], SamplingParams(temperature=0.0, max_tokens=2))
        assert len(told) >= 3
        assert len(runner._images.held) == len(pair.many.visual) == 0
    finally:
        pair.many.visual.capacity_bytes = 2**20
        runner._group.order = order


def test_a_rank_holds_its_part_only(pair: Pair) -> None:
    def weights(engine: Engine) -> dict[str, torch.Tensor]:
        tensors = engine.model.state_dict()
        by_tower = pair.many.model.vision_parallel != "tensor"
        return {name: t for name, t in tensors.items() if not (by_tower and name.startswith("model.visual"))}

    whole, mine = weights(pair.one), weights(pair.many)
    cut = [name for name, tensor in mine.items() if tensor.shape != whole[name].shape]
    for kind in ("qkv", "o_proj", "gate_up", "down_proj", "embed_tokens", "lm_head"):
        assert any(kind in name for name in cut), kind
    assert any("model.visual" in name for name in cut) == (pair.many.model.vision_parallel == "tensor")
    assert sum(t.nbytes for t in mine.values()) < 0.75 * sum(t.nbytes for t in whole.values())
    assert pair.many.model.kv_spec.bytes_per_token < pair.one.model.kv_spec.bytes_per_token


def test_what_cannot_be_shared_out_is_refused_before_a_rank_is_started(tmp_path: Path) -> None:
    made = make_phone_checkpoint(tmp_path / "made")
    with pytest.raises(InvalidInputError, match=r"q_proj.weight has 4 heads, which cannot be shared out over 3 ranks"):
        engine_of(made, tensor_parallel_size=3)
    with pytest.raises(InvalidInputError, match=r"visual.* has 2 heads.*; vision_parallel data or sequence shares out"):
        engine_of(made, tensor_parallel_size=4)
    with pytest.raises(InvalidInputError, match=r"vision_parallel data shares work out .* there is one") as caught:
        engine_of(made, vision_parallel="data")
    assert caught.value.field == "vision_parallel"


def test_groups_of_packed_columns_stay_whole_or_are_refused() -> None:
    """Four ranks have a query head of 16 columns each: half a group of int4."""
    model = phone_model()
    check_packing(model, "int8", 4)
    check_packing(model, "int4", 1)
    with pytest.raises(InvalidInputError, match=r"of .*o_proj rank 0 of 4 has columns 0 to 15; use int8") as caught:
        check_packing(model, "int4", 4)
    assert caught.value.field == "quantization"
