"""The kernels against the torch modules in double precision: both layouts, any batch, any block order, every
instruction set this machine has."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.context import ForwardContext, ImageFeatures, KVSpec, KVStore, SequenceSlice
from autoglm.model.glm4v import Glm4vModel
from autoglm.model.native.decoder import NO_IMAGES, BlockList, ImageList, NativeDecoder
from autoglm.model.native.description import Sizes, unfit
from autoglm.model.native.library import level, library
from autoglm.model.registry import Model
from tests.model.autoglm_phone.models import TINY, USER, Case, random_pixels, run
from tests.model.native.models import PHONE, glm_model, phone_model

BLOCK, LENGTH, COUNT = 4, 23, 6
ERROR = 5e-5  # of float32 through four layers, as a share of the logits' deviation
CPU = torch.device("cpu")


def test_it_was_built() -> None:
    assert library() is not None
    assert level() >= 0


class Native:
    """Feeds tokens of several sequences to the kernels, one a step, and keeps their logits."""

    def __init__(
        self,
        model: Model,
        count: int,
        threads: int,
        instructions: int,
        dtype: torch.dtype,
        *,
        integer_products: bool = False,
    ) -> None:
        blocks = -(-LENGTH // BLOCK)
        spec = KVSpec(model.kv_spec.num_layers, model.kv_spec.num_kv_heads, model.kv_spec.head_dim, dtype)
        kv = KVStore(spec, count * blocks * BLOCK, CPU)
        kv.keys.fill_(torch.nan)  # what was not written must not be read
        kv.values.fill_(torch.nan)
        self.decoder = NativeDecoder(
            model, kv, Sizes(count, 64, BLOCK, threads), instructions, integer_products=integer_products
        )
        order = torch.randperm(count * blocks, generator=torch.Generator().manual_seed(5)).tolist()
        self.blocks = []
        for index in range(count):
            table = BlockList(blocks)
            table.extend_to(order[index * blocks : (index + 1) * blocks])
            self.blocks.append(table)

    def feed(self, ids: list[list[int]], positions: Tensor, images: list[list[ImageList]]) -> list[Tensor]:
        """``positions [3, LENGTH]``; ``images[sequence][token]``."""
        outs: list[list[Tensor]] = [[] for _ in ids]
        for at in range(LENGTH):
            for index, tokens in enumerate(ids):
                one, two, three = positions[:, at].tolist()
                self.decoder.put(tokens[at], (one, two, three), at + 1, self.blocks[index], images[index][at])
            for out, row in zip(outs, self.decoder.run(), strict=True):
                out.append(row.clone())
        self.decoder.close()
        return [torch.stack(out) for out in outs]


def random_ids(count: int) -> list[list[int]]:
    return torch.randint(0, 60, (count, LENGTH), generator=torch.Generator().manual_seed(2)).tolist()


def in_double(model: Glm4vModel, ids: list[int], positions: Tensor) -> Tensor:
    kv = KVStore(model.kv_spec, LENGTH, CPU)
    context = ForwardContext(positions, torch.arange(LENGTH), [SequenceSlice(0, LENGTH, LENGTH, None, 0)], kv)
    with torch.inference_mode():
        hidden = model.forward(model.embed_tokens(torch.tensor(ids)), context)
        # compute_logits rounds to float32, which is finer than what is asked for here.
        return model.compute_logits(hidden)


@pytest.mark.parametrize("instructions", range(level() + 1))
@pytest.mark.parametrize(("count", "threads"), [(1, 1), (2, 2), (3, 1), (COUNT, 3)])
def test_glm4v(count: int, threads: int, instructions: int) -> None:
    model, ids = glm_model(), random_ids(count)
    positions = torch.randint(0, 4000, (3, LENGTH), generator=torch.Generator().manual_seed(4))
    found = Native(model, count, threads, instructions, torch.float32).feed(
        ids, positions, [[NO_IMAGES] * LENGTH] * count
    )
    exact = model.double()
    for out, tokens in zip(found, ids, strict=True):
        expected = in_double(exact, tokens, positions)
        assert (out - expected).abs().max() < ERROR * expected.std()


def phone_cases(count: int) -> list[list[int]]:
    """Sequence 0 sees no image, 1 sees one from the start, the others one after their second turn, or two."""
    ids = random_ids(count)
    for index, tokens in enumerate(ids):
        tokens[0] = USER
        if index:
            tokens[1] = PHONE.image_token_id
        if index > 1:
            tokens[9] = USER
            tokens[12] = PHONE.image_token_id
        if index > 2:
            tokens[14] = PHONE.image_token_id
    return ids


@pytest.mark.parametrize("instructions", range(level() + 1))
@pytest.mark.parametrize(("count", "threads"), [(1, 1), (2, 2), (4, 1), (COUNT, 3)])
def test_autoglm_phone(count: int, threads: int, instructions: int) -> None:
    model, ids = phone_model(), phone_cases(count)
    starts = [[i for i, token in enumerate(tokens) if token == PHONE.image_token_id] for tokens in ids]
    features = [model.encode_images(*random_pixels(len(s), seed)) if s else [] for seed, s in enumerate(starts)]
    images: list[list[ImageList]] = []
    for tokens, places, known in zip(ids, starts, features, strict=True):
        row = [NO_IMAGES] * LENGTH
        for first, last, seen in model.visible_spans(tokens, places):
            listed = ImageList([known[i] for i in seen])
            row[first:last] = [listed] * len(row[first:last])
        images.append(row)
    positions = torch.arange(LENGTH).expand(3, -1)
    found = Native(model, count, threads, instructions, torch.float32).feed(ids, positions, images)
    exact = model.double()
    cases = [
        Case(t, [ImageFeatures(tuple(x.double() for x in f.tensors)) for f in known], torch.arange(LENGTH), True)
        for t, known in zip(ids, features, strict=True)
    ]
    for out, case in zip(found, cases, strict=True):
        (expected,) = run(exact, [case], LENGTH, KVStore(exact.kv_spec, LENGTH, CPU))
        assert (out - expected).abs().max() < ERROR * expected.std()


@pytest.mark.parametrize("instructions", range(level() + 1))
def test_bfloat16_weights_and_kv(instructions: int) -> None:
    model, ids = glm_model().to(torch.bfloat16), random_ids(COUNT)
    positions = torch.arange(LENGTH).expand(3, -1)
    found = Native(model, COUNT, 1, instructions, torch.bfloat16).feed(ids, positions, [[NO_IMAGES] * LENGTH] * COUNT)
    exact = model.double()
    for out, tokens in zip(found, ids, strict=True):
        expected = in_double(exact, tokens, positions)
        assert (out - expected).std() < 0.01 * expected.std()  # keys and values are rounded, nothing else


@pytest.mark.parametrize("instructions", range(level() + 1))
def test_a_row_does_not_depend_on_the_rows_beside_it(instructions: int) -> None:
    model, ids = glm_model(), random_ids(8)
    positions, images = torch.arange(LENGTH).expand(3, -1), [[NO_IMAGES] * LENGTH] * 8
    together = Native(model, 8, 1, instructions, torch.float32).feed(ids, positions, images)
    for count in (1, 2, 5):
        some = Native(model, 8, 1, instructions, torch.float32).feed(ids[:count], positions, images)
        assert all(torch.equal(out, other) for out, other in zip(some, together[:count], strict=True))


def test_only_wanted_rows_come_back() -> None:
    model, ids = glm_model(), random_ids(3)
    every, some = (Native(model, 3, 1, level(), torch.float32) for _ in range(2))
    for native, wanted in ((every, [True] * 3), (some, [False, True, True])):
        for index in range(3):
            native.decoder.put(ids[index][0], (0, 0, 0), 1, native.blocks[index], wanted=wanted[index])
    assert torch.equal(every.decoder.run()[1:], some.decoder.run())


def test_what_does_not_fit_is_named() -> None:
    assert unfit(glm_model()) is None
    narrow = replace(TINY, text=replace(TINY.text, intermediate_size=40))
    assert "intermediate_size" in (unfit(AutoGLMPhoneModel(narrow)) or "")
    assert "float16" in (unfit(glm_model().half()) or "")


def test_a_stale_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.model.native.library.ABI", -1)
    library.cache_clear()
    try:
        assert library() is None
    finally:
        monkeypatch.undo()
        library.cache_clear()
