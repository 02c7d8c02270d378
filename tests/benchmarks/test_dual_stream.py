"""Both encoders at once: the whole benchmark in its quick form."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import results
from tests.benchmarks.test_side_by_side import run


def test_quick_form(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run("dual_stream", "--quick", "--out", str(out))
    assert done.returncode == 0, done.stderr
    found = {(r.subject, r.metric): r.value for r in results.read(out).rows}
    image, text, both = (found[name, "latency"] for name in ("image alone", "text alone", "side by side"))
    assert min(image, text, both, found["one after the other", "latency"]) > 0
    assert found["side by side", "share of the sum"] == pytest.approx(both / (image + text), rel=0.01)
    assert found["side by side", "share of the slower"] == pytest.approx(both / max(image, text), rel=0.01)
