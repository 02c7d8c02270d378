"""Attention through block tables against float64, on random tables: gathered, and by the Triton kernels themselves.

Without CUDA the kernels run in Triton's interpreter (``TRITON_INTERPRET``, set for all tests): the same source, one
program after the other on the CPU. What the GPU's compiler makes of them is not tested by that.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoglm.errors import InvalidInputError
from autoglm.model.context import KVSpec, KVStore
from autoglm.model.cuda import choice, paged_kernel
from autoglm.model.paged import PagedRows, gather

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Case:
    """One step's rows. ``lengths``: of each row; blocks nobody wrote hold no numbers."""

    dtype: torch.dtype
    head_dim: int
    kv_heads: int
    group: int
    block: int
    lengths: list[int]
    splits: int
    seed: int

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, PagedRows]:
        random = torch.Generator().manual_seed(self.seed)
        needed = [-(-length // self.block) for length in self.lengths]
        count = sum(needed) + 2
        blocks = torch.randperm(count, generator=random)
        tables = torch.full((len(needed), max(needed) + 1), int(blocks[-1]), dtype=torch.int32)
        keys, values = torch.full((2, self.kv_heads, count * self.block, self.head_dim), torch.nan)
        at = 0
        for row, (number, length) in enumerate(zip(needed, self.lengths, strict=True)):
            tables[row, :number] = blocks[at : at + number]
            slots = (blocks[at : at + number, None] * self.block + torch.arange(self.block)).flatten()[:length]
            for store in (keys, values):
                store[:, slots] = torch.randn(self.kv_heads, length, self.head_dim, generator=random)
            at += number
        heads = self.kv_heads * self.group
        wide = torch.randn(len(needed), heads + 2 * self.kv_heads, self.head_dim, generator=random)
        rows = PagedRows(tables.to(DEVICE), torch.tensor(self.lengths, device=DEVICE), self.block, gather)
        q = wide.to(self.dtype).to(DEVICE)[:, :heads]  # as the fused projection leaves it: rows lie apart
        return q, keys.to(self.dtype).to(DEVICE), values.to(self.dtype).to(DEVICE), rows


def exact(q: Tensor, keys: Tensor, values: Tensor, rows: PagedRows) -> Tensor:
    """In float64, row by row and head by head."""
    out = torch.empty(q.shape, dtype=torch.float64, device=q.device)
    group = q.shape[1] // keys.shape[0]
    for row, length in enumerate(rows.lengths.tolist()):
        slots = [
            int(rows.tables[row, i // rows.block_size]) * rows.block_size + i % rows.block_size for i in range(length)
        ]
        for head in range(q.shape[1]):
            k, v = (store[head // group, slots].double() for store in (keys, values))
            weights = torch.softmax(k @ q[row, head].double() / q.shape[2] ** 0.5, dim=0)
            out[row, head] = weights @ v
    return out


def cases(most: int, dims: list[int]) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        dtype=st.sampled_from(list(TOLERANCE)),
        head_dim=st.sampled_from(dims),
        kv_heads=st.sampled_from([1, 2]),
        group=st.sampled_from([1, 2, 3, 16]),
        block=st.sampled_from([1, 4, 16]),
        lengths=st.lists(st.integers(1, most), min_size=1, max_size=3),
        splits=st.sampled_from([1, 2, 4]),
        seed=st.integers(0, 2**32),
    )


def check_kernel(case: Case) -> None:
    tensors = case.tensors()
    found = paged_kernel.paged_attention(*tensors, splits=case.splits)
    tolerance = TOLERANCE[case.dtype]
    torch.testing.assert_close(found.double(), exact(*tensors), rtol=tolerance, atol=tolerance)


@given(cases(70, [16, 64, 128]))
@settings(max_examples=15, deadline=None)
def test_gathered(case: Case) -> None:
    tensors = case.tensors()
    tolerance = TOLERANCE[case.dtype]
    torch.testing.assert_close(gather(*tensors).double(), exact(*tensors), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "head_dim", "splits"), [(torch.bfloat16, 64, 2), (torch.float16, 128, 1), (torch.float32, 64, 4)]
)
def test_kernel(dtype: torch.dtype, head_dim: int, splits: int) -> None:
    """One row of a single token, so that all but one split are empty, and one that ends inside a tile of the last."""
    check_kernel(Case(dtype, head_dim, 1, 3, 16, [1, 2 * paged_kernel.TILE + 5], splits, seed=splits))


@pytest.mark.slow
@given(cases(300, [64, 128]))
@settings(max_examples=60, deadline=None)
def test_kernel_on_random_tables(case: Case) -> None:
    check_kernel(case)


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 32768), st.integers(1, 200))
@settings(max_examples=50)
def test_splits_fill_the_device_and_are_no_smaller_than_a_tile(rows: int, heads: int, tokens: int, units: int) -> None:
    splits = paged_kernel.splits_for(rows, heads, tokens, units)
    assert splits & (splits - 1) == 0
    assert 1 <= splits <= paged_kernel.MAX_SPLITS
    assert splits == 1 or splits * paged_kernel.TILE < tokens + paged_kernel.TILE
    enough = rows * heads * splits >= units
    assert enough or splits == paged_kernel.MAX_SPLITS or 2 * splits * paged_kernel.TILE > tokens


def test_a_kernel_is_only_chosen_where_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = KVSpec(1, 1, 16, torch.float32)
    kv = KVStore(spec, 8 * 16, DEVICE)

    def wrong(q: Tensor, keys: Tensor, values: Tensor, rows: PagedRows, splits: int | None = None) -> Tensor:
        return gather(q, keys, values, rows) + 0.1

    def broken(q: Tensor, keys: Tensor, values: Tensor, rows: PagedRows, splits: int | None = None) -> Tensor:
        raise RuntimeError("no such instruction")

    for kernel, words in ((wrong, "differ by"), (broken, "no such instruction")):
        monkeypatch.setattr(paged_kernel, "paged_attention", kernel)
        reason = choice.worse(kv, 2, 16)
        assert reason is not None
        assert words in reason


def test_a_kernel_that_cannot_run_is_refused() -> None:
    kv = KVStore(KVSpec(1, 1, 24, torch.float32), 16, DEVICE)
    with pytest.raises(InvalidInputError, match="24 values is no power of two"):
        choice.paged_attention_of("kernel", kv, 2, 1, 16)
    assert choice.paged_attention_of("auto", kv, 2, 1, 16) is gather
