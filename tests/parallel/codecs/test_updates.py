"""Weight updates as thin products: within the bound, or exact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.errors import InvalidInputError
from autoglm.parallel.codecs.updates import Exact, LowRank, apply_update, encode_update


@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(0, 12),
    st.sampled_from([0.0, 0.002, 0.01, 0.1]),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.floats(0, 0.3),
)
@settings(max_examples=80, deadline=None)
def test_every_update_is_within_its_bound_or_exact(
    rows: int, columns: int, rank: int, bound: float, dtype: torch.dtype, noise: float
) -> None:
    random = torch.Generator().manual_seed(rows * 1000 + columns)
    old = torch.randn(rows, columns, generator=random).to(dtype)
    change = torch.randn(rows, rank, generator=random) @ torch.randn(rank, columns, generator=random)
    change += noise * torch.randn(rows, columns, generator=random)
    new = (old.float() + change).to(dtype)
    update = encode_update(old, new, max_error=bound)
    found = apply_update(old, update)
    if isinstance(update, Exact):
        assert torch.equal(found, new)
    else:
        assert 2 * update.nbytes <= new.nbytes
        exact = new.float() - old.float()
        assert (update.change() - exact).norm() <= bound * exact.norm() * (1 + 1e-5)


def test_an_adapter_is_sent_as_a_thin_product_and_a_fine_tune_is_not() -> None:
    random = torch.Generator().manual_seed(0)
    old = torch.randn(256, 384, generator=random)
    low = torch.randn(256, 8, generator=random) @ torch.randn(8, 384, generator=random) * 0.01
    update = encode_update(old, old + low)
    assert isinstance(update, LowRank)
    assert update.left.shape == (256, 8)
    assert update.nbytes * 20 < old.nbytes
    assert isinstance(encode_update(old, old + 0.01 * torch.randn(256, 384, generator=random)), Exact)
    unchanged = encode_update(old, old.clone())
    assert unchanged.nbytes == 0
    assert torch.equal(apply_update(old, unchanged), old)


def test_vectors_and_broken_values_go_exactly() -> None:
    assert isinstance(encode_update(torch.zeros(8), torch.ones(8)), Exact)
    broken = torch.ones(64, 64)
    broken[3, 3] = torch.nan
    assert isinstance(encode_update(torch.zeros(64, 64), broken), Exact)


def test_updates_of_another_tensor_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        encode_update(torch.zeros(2, 2), torch.zeros(2, 3))
    update = encode_update(torch.zeros(64, 64), torch.ones(64, 64))
    assert isinstance(update, LowRank)
    for bad in (update, Exact(torch.zeros(64, 64))):
        with pytest.raises(InvalidInputError):
            apply_update(torch.zeros(64, 65), bad)
