"""The demo, in short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "phone_dialogue.py"


def test_it_runs(checkpoint: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLE), "--model", str(checkpoint), "--steps", "2", "--tokens", "3"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("│")]
    assert len(rows) == 2
    prompt, cached, computed = (int(rows[1][i]) for i in (3, 5, 7))
    assert prompt == cached + computed
    assert cached > 500  # the system prompt, at least
    assert computed > 3354  # the new screen, at least
    assert "server stopped with status 0" in result.stdout
