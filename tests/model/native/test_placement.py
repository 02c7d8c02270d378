"""Weights move to one piece of memory and stay what they were."""

from __future__ import annotations

import mmap

import pytest
import torch
from torch import nn

from autoglm.model.native.placement import place


def layers() -> nn.ModuleList:
    """Two large matrices, one that is tied to the first, and small vectors."""
    generator = torch.Generator().manual_seed(0)
    made = nn.ModuleList(nn.Linear(192, 200) for _ in range(3)).requires_grad_(False)
    made[2].weight = made[0].weight
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    made.register_buffer("codes", torch.arange(2**17, dtype=torch.uint8))
    return made


def test_all_large_tensors_lie_in_one_piece() -> None:
    placed, plain = layers(), layers()
    size = place([placed, placed])
    large = [placed[0].weight, placed[1].weight, placed.get_buffer("codes")]
    assert size == sum(t.nbytes for t in large)
    starts = sorted(t.data_ptr() for t in large)
    assert starts[-1] - starts[0] < size
    assert all(start % 64 == 0 for start in starts)
    assert placed[2].weight is placed[0].weight
    for name, tensor in plain.state_dict().items():
        assert torch.equal(placed.state_dict()[name], tensor)
    x = torch.randn(3, 192)
    assert torch.equal(placed[1](x), plain[1](x))


def test_views_and_small_tensors_stay() -> None:
    module = nn.Module()
    module.register_buffer("part", torch.zeros(4, 2**16)[1])
    module.register_buffer("small", torch.zeros(10))
    before = [t.data_ptr() for t in module.buffers()]
    assert place([module]) == 0
    assert [t.data_ptr() for t in module.buffers()] == before


def test_without_huge_pages_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    module = layers()
    before = module[0].weight.data_ptr()
    assert place([module]) == 0
    assert module[0].weight.data_ptr() == before
