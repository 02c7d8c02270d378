from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import phone_world
from benchmarks.results import read


def test_it_measures_every_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "phone_world.json"
    monkeypatch.setattr("sys.argv", ["phone_world", "--episodes", "6", "--scenes", "2", "--out", str(out)])
    assert phone_world.main() == 0
    rows = read(out).rows
    shares = {(row.case, row.subject): row.value for row in rows if row.unit == "share"}
    assert len(shares) == 10
    for (case, subject), share in shares.items():
        assert share <= shares[case, "expert"], subject
    assert all(row.value > 0 for row in rows if row.unit in ("ms", "steps"))
