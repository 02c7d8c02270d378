"""The time gate: gradients, any two lengths, and numbers that stay finite."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoglm.model.autoglm_phone.fusion import VisualPlan, pack_features
from autoglm.model.autoglm_phone.time_gate import TimeGate
from autoglm.model.context import VisualSpan

HIDDEN, RANK = 8, 3


def make_gate(seed: int = 0, dtype: torch.dtype = torch.float64) -> TimeGate:
    generator = torch.Generator().manual_seed(seed)
    gate = TimeGate(HIDDEN, RANK, 1e-6).to(dtype)
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return gate


def rows(count: int, seed: int) -> Tensor:
    return torch.randn(count, HIDDEN, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("text", "visual"), [(1, 1), (3, 5), (4, 1), (1, 6)])
def test_gradients(text: int, visual: int) -> None:
    gate = make_gate()
    names = [name for name, _ in gate.named_parameters()]
    inputs = [rows(text, 1), rows(visual, 2), *(p.detach().clone() for p in gate.parameters())]

    def apply(hidden: Tensor, image: Tensor, *weights: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(gate, dict(zip(names, weights, strict=True)), (hidden, image))
        return out

    assert torch.autograd.gradcheck(apply, [x.requires_grad_(True) for x in inputs])


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 3))
def test_any_two_lengths_and_one_entry_per_pair(text: int, visual: int, seed: int) -> None:
    gate, hidden, image = make_gate(seed), rows(text, seed + 1), rows(visual, seed + 2)
    log_mask = gate(hidden, image)
    assert log_mask.shape == (text, visual)
    mask = log_mask.exp()
    assert bool(((mask > 0) & (mask < 1)).all())
    for t in range(text):  # an entry depends on its row and its visual token alone
        for v in range(visual):
            torch.testing.assert_close(gate(hidden[t : t + 1], image[v : v + 1])[0, 0], log_mask[t, v])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_similarities_stay_finite(dtype: torch.dtype) -> None:
    gate = make_gate(dtype=dtype)
    with torch.no_grad():
        gate.scale.fill_(3000.0)
    hidden, image = rows(4, 1).to(dtype) * 100, rows(6, 2).to(dtype) * 100
    log_mask = gate(hidden, image)
    assert log_mask.dtype == dtype
    assert bool(torch.isfinite(log_mask).all())
    assert float(log_mask.detach().min()) < -500
    gate(hidden, image).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in gate.parameters() if p.grad is not None)


def test_scale_of_either_stream_does_not_matter() -> None:
    gate, hidden, image = make_gate(), rows(3, 1), rows(4, 2)
    torch.testing.assert_close(gate(hidden * 50, image * 0.1), gate(hidden, image), atol=1e-3, rtol=1e-3)


def test_rows_without_an_image_have_no_plan() -> None:
    gate, hidden = make_gate(), rows(5, 1)
    features = pack_features([], gate.visual_keys(rows(4, 2)))
    assert VisualPlan.of(hidden, [], gate) is None
    assert VisualPlan.of(hidden, [VisualSpan(0, 5, ()), VisualSpan(2, 2, (features,))], gate) is None
    plan = VisualPlan.of(hidden, [VisualSpan(3, 5, (features,)), VisualSpan(0, 1, (features, features))], gate)
    assert plan is not None
    assert plan.rows is not None
    assert plan.rows.tolist() == [0, 3, 4]
    assert [tuple(span.log_mask.shape) for span in plan.spans] == [(1, 8), (2, 4)]
