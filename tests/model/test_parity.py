"""Against the reference implementation on the same random weights, fp32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Glm4vForConditionalGeneration

from autoglm.model.glm4v import Glm4vModel
from autoglm.model.loading import load_checkpoint
from autoglm.model.synthetic import write_weights
from tests.model.conftest import config_of
from tests.model.harness import Case, Grid, our_logits, random_case, reference_logits

TOLERANCE = 1e-4
SHAPES: dict[str, tuple[list[Grid], list[int]]] = {
    "text": ([], [37]),
    "one image": ([(1, 8, 12)], [11, 9]),
    "several images": ([(1, 4, 4), (1, 12, 6), (1, 2, 10)], [3, 5, 1, 6]),
    "image first": ([(1, 6, 6)], [0, 4]),
}


def check(model: Glm4vModel, reference: Glm4vForConditionalGeneration, case: Case, chunk: int) -> None:
    expected = reference_logits(reference, case)
    n = len(case.ids)
    scattered = torch.randperm(512, generator=torch.Generator().manual_seed(n))[:n]
    for slots in (torch.arange(5, 5 + n), scattered):
        (logits,) = our_logits(model, [case], [slots], chunk, 512)
        assert (logits - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("chunk", [1000, 7])
def test_logits(model: Glm4vModel, reference: Glm4vForConditionalGeneration, name: str, chunk: int) -> None:
    case = random_case(torch.Generator().manual_seed(3), *SHAPES[name])
    check(model, reference, case, chunk)


def test_token_by_token(model: Glm4vModel, reference: Glm4vForConditionalGeneration) -> None:
    case = random_case(torch.Generator().manual_seed(4), [(1, 4, 6)], [5, 5])
    check(model, reference, case, 1)


even = st.integers(1, 6).map(lambda x: 2 * x)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_mixed_batches(data: st.DataObject, model: Glm4vModel, reference: Glm4vForConditionalGeneration) -> None:
    count = data.draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    cases = []
    for _ in range(count):
        grids = data.draw(st.lists(st.tuples(st.just(1), even, even), max_size=2))
        texts = data.draw(st.lists(st.integers(1, 12), min_size=len(grids) + 1, max_size=len(grids) + 1))
        cases.append(random_case(generator, grids, texts))
    order = torch.randperm(1024, generator=generator)
    slots = list(torch.split(order, [len(c.ids) for c in cases] + [1024 - sum(len(c.ids) for c in cases)]))[:-1]
    chunk = data.draw(st.integers(1, 80))
    for case, logits in zip(cases, our_logits(model, cases, slots, chunk, 1024), strict=True):
        assert (logits - reference_logits(reference, case)).abs().max() < TOLERANCE


def test_batched_encoding_equals_single(model: Glm4vModel) -> None:
    case = random_case(torch.Generator().manual_seed(9), [(1, 4, 4), (1, 6, 10)], [0, 0, 0])
    with torch.inference_mode():
        together = model.encode_images(case.pixels, case.grids)
        for pixels, grid, features in zip(case.pixels, case.grids, together, strict=True):
            alone = model.encode_images([pixels], [grid])[0]
            torch.testing.assert_close(alone.tensors[0], features.tensors[0], atol=1e-5, rtol=1e-5)


def test_checkpoint_saved_by_the_reference(reference: Glm4vForConditionalGeneration, tmp_path: Path) -> None:
    reference.save_pretrained(tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert isinstance(loaded, Glm4vModel)
    check(loaded, reference, random_case(torch.Generator().manual_seed(5), [(1, 4, 4)], [4, 4]), 1000)


def test_small_checkpoint(tmp_path: Path) -> None:
    write_weights(tmp_path, config_of("small"), seed=1)
    loaded = load_checkpoint(tmp_path, dtype=torch.float32)
    assert isinstance(loaded, Glm4vModel)
    reference = Glm4vForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    check(loaded, reference, random_case(torch.Generator().manual_seed(6), [(1, 8, 6)], [9, 9]), 16)


def test_bfloat16_is_close(tiny: Path, reference: Glm4vForConditionalGeneration) -> None:
    loaded = load_checkpoint(tiny)
    assert isinstance(loaded, Glm4vModel)
    assert loaded.dtype == torch.bfloat16
    case = random_case(torch.Generator().manual_seed(7), [(1, 4, 4)], [4, 4])
    (logits,) = our_logits(loaded, [case], [torch.arange(len(case.ids))], 1000, 64)
    expected = reference_logits(reference, case)
    assert (logits - expected).abs().max() < 0.05 * expected.abs().max()
