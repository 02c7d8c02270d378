"""Vision towers over ranks, by patch and by image: what one rank computes, whatever divides and whatever does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._C._distributed_c10d import HashStore, PrefixStore, ProcessGroupGloo

from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.config import Glm4vConfig
from autoglm.model.glm4v import Glm4vModel
from autoglm.model.initialise import initialise
from autoglm.model.patches import PatchRows, VisionParallel, images_of_ranks
from autoglm.parallel.collectives import Communicator, TorchCommunicator
from tests.model.autoglm_phone.models import TINY, random_pixels, tiny_model

GLM = Glm4vConfig(
    text=replace(TINY.text.decoder(), rotary_dim=8, mrope_section=(1, 1, 2)),
    vision=replace(TINY.vision.blocks(), out_hidden_size=32, merge_size=2, merger_size=16),
    image_token_id=61,
    stop_token_ids=(62,),
)
GRIDS = [(1, 4, 4), (1, 2, 2), (2, 4, 2), (1, 6, 10)]
"""Of 4, 1, 2 x 2 and 15 units that are merged. Over three ranks only 15 divides, and two have nothing of the second."""


Run = Callable[[Callable[[Communicator], Any]], list[Any]]


@pytest.fixture(scope="module", params=[2, 3])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a function on all ranks of a gloo group, each a thread; its results in order of rank."""
    size: int = request.param
    store = PrefixStore("patches", HashStore())

    def joined(rank: int) -> Communicator:
        return TorchCommunicator(ProcessGroupGloo(store, rank, size, timedelta(seconds=60)))

    def one(function: Callable[[Communicator], Any], group: Communicator) -> Any:
        with torch.inference_mode():
            return function(group)

    with ThreadPoolExecutor(size) as pool:
        groups = list(pool.map(joined, range(size)))
        yield lambda function: list(pool.map(partial(one, function), groups))


@settings(max_examples=15, deadline=None)
@given(units=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any), unit=st.integers(1, 4))
def test_rows_are_shared_out_and_come_back_in_order(run: Run, units: list[int], unit: int) -> None:
    lengths = tuple(count * unit for count in units)
    whole = torch.arange(sum(lengths) * 2, dtype=torch.float32).view(-1, 2)

    def there_and_back(comm: Communicator) -> tuple[int, Tensor]:
        rows = PatchRows(lengths, unit, comm)
        mine = rows.own(whole)
        assert len(mine) == sum(rows.own_lengths)
        assert all(length % unit == 0 for length in rows.own_lengths)
        return len(mine), rows.whole(mine)

    found = run(there_and_back)
    assert sum(count for count, _ in found) == len(whole)
    assert max(count for count, _ in found) - min(count for count, _ in found) <= unit * len(lengths)
    assert all(torch.equal(back, whole) for _, back in found)


@given(patches=st.lists(st.integers(1, 400), max_size=8), size=st.integers(1, 5))
def test_every_image_has_one_rank_and_no_rank_has_much_more(patches: list[int], size: int) -> None:
    shares = images_of_ranks(patches, size)
    assert sorted(i for images in shares for i in images) == list(range(len(patches)))
    loads = [sum(patches[i] for i in images) for images in shares]
    assert max(loads) - min(loads) <= max(patches, default=0)


def glm_model() -> Glm4vModel:
    model = Glm4vModel(GLM).eval().requires_grad_(False)
    initialise(model, 0, std=0.2)
    return model


@pytest.mark.parametrize("layout", ["glm4v", "autoglm_phone"])
@pytest.mark.parametrize("way", ["data", "sequence"])
def test_visual_tokens_are_those_of_one_rank(run: Run, layout: str, way: VisionParallel) -> None:
    make: Callable[[], Glm4vModel | AutoGLMPhoneModel] = glm_model if layout == "glm4v" else tiny_model
    if layout == "glm4v":
        generator, grids = torch.Generator().manual_seed(5), GRIDS
        values = GLM.vision.patch_values
        pixels = [torch.randn(t * h * w, values, generator=generator) for t, h, w in grids]
    else:
        pixels, grids = random_pixels(4)
    with torch.inference_mode():
        expected = make().encode_visual(pixels, grids)

    def encode(comm: Communicator) -> list[Tensor]:
        model = make()
        model.vision_parallel, model.vision_comm = way, comm
        return model.encode_visual(pixels, grids) + model.encode_visual(pixels[1:2], grids[1:2])

    found = run(encode)
    for rank in found:
        assert [one.shape for one in rank] == [one.shape for one in [*expected, expected[1]]]
        for ours, theirs in zip(rank, [*expected, expected[1]], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
        assert all(torch.equal(a, b) for a, b in zip(rank, found[0], strict=True))  # all ranks sample alike
    assert float(torch.cat(expected).std()) > 0.01
