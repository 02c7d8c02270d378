"""Prefill on the kernels against the torch modules in double precision: both layouts and their towers, several
sequences in chunks of any length behind what is there already, every instruction set this machine has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from autoglm.model.context import ForwardContext, KVStore, SequenceSlice
from autoglm.model.glm4v import Glm4vModel
from autoglm.model.native.library import level
from autoglm.model.native.prefill import FEWEST_ROWS, PrefillKernels
from autoglm.model.native.tower import TowerKernels
from autoglm.model.quantized.linear import QuantizedLinear, quantize
from autoglm.model.registry import Model
from tests.model.autoglm_phone.models import Case, random_pixels, run
from tests.model.native.models import PHONE, glm_model, phone_model

BLOCK, TOKENS = 4, 200
ERROR = 5e-5  # of float32 through four layers, as a share of the deviation
CPU = torch.device("cpu")
LEVELS = range(level() + 1)
# Rows of each sequence in each step: panels of 8, 16 and 32 rows shared by several, cut, and with a row or two of one.
STEPS = [(70, 3, 0, 12), (1, 45, 2, 33), (40, 0, 31, 1), (5, 1, 2, 1)]


@contextmanager
def kernels(model: Model, kv: KVStore, instructions: int | None = None, threads: int = 1) -> Iterator[None]:
    """With them in the place of the layers."""
    model.decoder.kernels = found = PrefillKernels(model, kv, TOKENS, BLOCK, threads, instructions)
    try:
        yield
    finally:
        model.decoder.kernels = None
        found.handle.close()


def empty_kv(model: Model, sequences: int) -> KVStore:
    kv = KVStore(model.kv_spec, sequences * TOKENS, CPU)
    kv.keys.fill_(torch.nan)  # what was not written must not be read
    kv.values.fill_(torch.nan)
    return kv


def scattered(sequences: int) -> list[Tensor]:
    """Slots: the first sequence has a run, the others blocks in any order."""
    order = torch.randperm(sequences * TOKENS // BLOCK, generator=torch.Generator().manual_seed(1))
    order = torch.cat([torch.arange(TOKENS // BLOCK), order[order >= TOKENS // BLOCK]])
    return list((order[:, None] * BLOCK + torch.arange(BLOCK)).flatten().split(TOKENS))


@torch.inference_mode()
def steps_of(model: Glm4vModel, kv: KVStore, *, wanted: bool) -> list[Tensor]:
    """Hidden states of each of :data:`STEPS`; with ``wanted`` of the last rows of some sequences only."""
    generator, slots = torch.Generator().manual_seed(3), scattered(len(STEPS[0]))
    done, found = [0] * len(slots), []
    for counts in STEPS:
        parts: list[SequenceSlice] = []
        rows, want = 0, []
        for i, count in enumerate(counts):
            done[i] += count
            if count:
                parts.append(SequenceSlice(rows, count, done[i], slots[i][: done[i]], None))
                want += range(rows + max(0, count - i), rows + count)
            rows += count
        new = [s.slots[-s.query_len :] for s in parts if s.slots is not None]
        positions = torch.randint(0, 400, (3, rows), generator=generator)
        context = ForwardContext(positions, torch.cat(new), parts, kv)
        context.output_rows = torch.tensor(want) if wanted else None
        ids = torch.randint(0, 60, (rows,), generator=generator)
        found.append(model.forward(model.embed_tokens(ids), context))
    return found


def assert_near(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < ERROR * expected.std()


@pytest.mark.parametrize("instructions", LEVELS)
@pytest.mark.parametrize(("threads", "wanted"), [(1, False), (3, True), (12, True)])
def test_chunks_of_several_sequences(instructions: int, threads: int, wanted: bool) -> None:
    model = glm_model()
    kv = empty_kv(model, len(STEPS[0]))
    with kernels(model, kv, instructions, threads):
        found = steps_of(model, kv, wanted=wanted)
    exact = model.double()
    exact_kv = empty_kv(exact, len(STEPS[0]))
    for out, expected in zip(found, steps_of(exact, exact_kv, wanted=wanted), strict=True):
        assert_near(out, expected)
    written = ~exact_kv.keys.isnan()
    assert torch.equal(written, ~kv.keys.isnan())
    assert_near(kv.keys[written], exact_kv.keys[written])
    assert_near(kv.values[written], exact_kv.values[written])


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_packed_weights(scheme: str) -> None:
    model = glm_model()
    quantize(model, scheme)
    kv, other = empty_kv(model, len(STEPS[0])), empty_kv(model, len(STEPS[0]))
    with kernels(model, kv):
        found = steps_of(model, kv, wanted=False)
    assert any(isinstance(m, QuantizedLinear) and m.scheme == scheme for m in model.modules())
    for out, expected in zip(found, steps_of(model, other, wanted=False), strict=True):
        assert_near(out, expected)


@pytest.mark.parametrize("chunk", [9, 64])
def test_cross_attention_between_the_halves(chunk: int) -> None:
    model = phone_model()
    ids = torch.randint(0, 60, (64,), generator=torch.Generator().manual_seed(5)).tolist()
    ids[1] = ids[30] = ids[31] = PHONE.image_token_id
    features = model.encode_images(*random_pixels(3, 7))
    slots = scattered(1)[0]
    case = Case(ids, features, slots)
    kv, other = empty_kv(model, 1), empty_kv(model, 1)
    with kernels(model, kv):
        (found,) = run(model, [case], chunk, kv)
    (expected,) = run(model, [case], chunk, other)
    assert_near(found, expected)


def test_what_is_not_for_them() -> None:
    model = glm_model()
    kv = empty_kv(model, 1)
    assert (PrefillKernels.of(model, kv, 40, BLOCK) is not None) == (level() > 0)
    found = PrefillKernels(model, kv, 40, BLOCK, 1)

    def context(rows: int, length: int, store: KVStore = kv) -> ForwardContext:
        slots = torch.arange(length)
        return ForwardContext(torch.zeros(3, rows), slots[-rows:], [SequenceSlice(0, rows, length, slots)], store)

    assert found.fits(context(FEWEST_ROWS, 40))
    assert not found.fits(context(FEWEST_ROWS - 1, 40))
    assert not found.fits(context(FEWEST_ROWS, 41))
    assert not found.fits(context(FEWEST_ROWS, 40, empty_kv(model, 1)))
    rounded = empty_kv(model.to(torch.bfloat16), 1)
    assert PrefillKernels.of(model, rounded, 40, BLOCK) is None


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("instructions", LEVELS)
def test_towers(instructions: int, threads: int) -> None:
    glm, phone = glm_model(), phone_model()
    generator = torch.Generator().manual_seed(2)
    grids = [(1, 8, 6), (1, 2, 2), (1, 4, 10)]
    values = glm.config.vision.patch_values
    pixels = [torch.randn(h * w, values, generator=generator) for _, h, w in grids]
    screens, screen_grids = random_pixels(2, 3)
    found = []
    for model in (glm, phone):
        model.visual.blocks.kernels = TowerKernels(list(model.visual.blocks), threads, instructions)
    for _ in range(2):
        found.append(glm.encode_visual(pixels, grids) + phone.encode_visual(screens, screen_grids))
        for model in (glm, phone):
            model.visual.blocks.kernels = None
            model.double()
    for out, expected in zip(*found, strict=True):
        assert_near(out, expected)


def test_towers_that_do_not_fit() -> None:
    model = glm_model()
    assert (TowerKernels.of(model.visual.blocks, 1) is not None) == (level() > 0)
    assert TowerKernels.of(model.visual.blocks.to(torch.bfloat16), 1) is None
