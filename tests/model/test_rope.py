"""Positions against the reference's, for any number of images."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Glm4vForConditionalGeneration

from autoglm.model.rope import block_order, rope_positions
from tests.model.harness import IMAGE, random_case

even = st.integers(1, 8).map(lambda x: 2 * x)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(grids=st.lists(st.tuples(st.just(1), even, even), max_size=4), data=st.data())
def test_positions_equal_reference(
    grids: list[tuple[int, int, int]], data: st.DataObject, reference: Glm4vForConditionalGeneration
) -> None:
    # Between two images there is always a token: the reference tells images apart by the gap.
    texts = data.draw(st.lists(st.integers(1, 9), min_size=len(grids) + 1, max_size=len(grids) + 1))
    case = random_case(torch.Generator().manual_seed(0), grids, texts)
    ids = torch.tensor([case.ids])
    expected, deltas = reference.model.get_rope_index(
        ids,
        mm_token_type_ids=(ids == IMAGE).long(),
        image_grid_thw=torch.tensor(grids) if grids else None,
        attention_mask=torch.ones_like(ids),
    )
    positions, delta = rope_positions(len(case.ids), list(zip(case.starts, grids, strict=True)), 2)
    assert torch.equal(positions, expected[:, 0].long())
    assert delta == int(deltas.flatten()[0])


def test_an_image_counts_its_longer_side() -> None:
    positions, delta = rope_positions(2 + 12 + 1, [(2, (1, 8, 6))], 2)
    assert positions[:, 1].tolist() == [1, 1, 1]
    assert positions[:, 2].tolist() == [2, 2, 2]
    assert positions[:, 13].tolist() == [2, 5, 4]
    assert positions[:, 14].tolist() == [6, 6, 6]
    assert delta == 7 - 15


def test_block_order() -> None:
    rows, columns = block_order(4, 4, 2)
    assert rows.tolist()[:8] == [0, 0, 1, 1, 0, 0, 1, 1]
    assert columns.tolist()[:8] == [0, 1, 0, 1, 2, 3, 2, 3]
