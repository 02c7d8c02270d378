"""The GPU benchmark's code on the CPU, and its refusal where there is no device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu, results


def test_smoke_form(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    forms = ["autoglm", "autoglm, keys gathered", "autoglm, fp8"]
    assert gpu.main(["--smoke", "--tokenizer", str(checkpoint), "--out", str(out), "--subjects", *forms]) == 0
    result = results.read(out)
    found = {(r.case, r.subject, r.metric): r for r in result.rows}
    for layout in ("glm4v", "autoglm_phone"):
        for case in ("TTFT of a screenshot", "TPOT of 1", "TPOT of 2"):
            assert found[f"{layout} {case}", "autoglm", "latency"].value > 0
            share = "share of operations" if case.startswith("TTFT") else "share of bandwidth"
            assert found[f"{layout} {case}", "autoglm", share].value > 0
    ours, theirs = (found["glm4v TPOT of 2", subject, "latency"] for subject in ("autoglm", "transformers"))
    assert ours.ratio == pytest.approx(theirs.value / ours.value)
    assert ours.repetitions >= 1


def test_without_a_device_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "gpu.json"
    assert gpu.main(["--out", str(out)]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err
    assert not out.exists()
