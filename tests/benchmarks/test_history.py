"""The quick form: a later step computes the new turn only, however long the dialogue is."""

from __future__ import annotations

from pathlib import Path

from benchmarks import history, results


def test_quick_form(tmp_path: Path) -> None:
    out = tmp_path / "history.json"
    assert history.main(["--quick", "--repetitions", "1", "--out", str(out)]) == 0
    rows = results.read(out).rows
    computed = [r.value for r in rows if r.metric == "tokens to compute" and r.subject == "idle prefill off"]
    assert len(computed) == 2
    assert max(computed) - min(computed) < 24  # what a last block that is not full holds
    ratios = [r.ratio for r in rows if r.metric == "TTFT later steps, CPU"]
    assert [ratio is None for ratio in ratios] == [True, True, False, False]
