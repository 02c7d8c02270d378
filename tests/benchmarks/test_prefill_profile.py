"""The arithmetic that the profile of prefill is set beside, against what torch counts; the profile, start to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autoglm.model.context import ForwardContext, KVStore, SequenceSlice
from benchmarks import prefill_profile, workload
from benchmarks.prefill_arithmetic import Prompt, operations
from tests.model.native.models import glm_model

CPU = torch.device("cpu")


def test_arithmetic_is_what_torch_counts() -> None:
    model = glm_model()
    counted = operations(model, Prompt(rows=1, reused=0, patches=48))
    kv = KVStore(model.kv_spec, 4, CPU)
    slots = torch.arange(1)
    context = ForwardContext(torch.zeros(3, 1).long(), slots, [SequenceSlice(0, 1, 1, slots, 0)], kv)
    plain = sdpa_kernel(SDPBackend.MATH)  # attention that is made of products, which the counter sees
    with FlopCounterMode(display=False) as flops, torch.inference_mode(), plain:
        model.compute_logits(model.forward(model.embed_tokens(slots), context))
        model.visual(torch.randn(48, model.config.vision.patch_values), [(1, 8, 6)])
    assert sum(counted.values()) == flops.get_total_flops()


def test_a_longer_prompt_needs_more_of_what_sees_it() -> None:
    model = glm_model()
    short, long = (operations(model, Prompt(10, reused, 0)) for reused in (0, 100))
    assert {part for part in short if short[part] != long[part]} == {"decoder attend"}


def test_start_to_end(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOGLM_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "tiny").symlink_to(checkpoint)
    result = prefill_profile.measure("tiny", 1, workload.QUICK, tmp_path)
    found = {(r.case, r.subject) for r in result.rows if r.metric == "time"}
    text, screen, _ = prefill_profile.CASES.values()
    assert {(screen, part.name) for part in prefill_profile.PARTS} <= found
    assert {part for case, part in found if case == text and part.startswith("tower")} == set()
    page = prefill_profile.table(result)
    assert page.count("| decoder: down |") == 3
    assert page.count("| tower: attention |") == 2
    assert "times as fast as on torch" in page
