"""The loop's example, in both languages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [7, 11])
def test_it_reaches_the_goal(seed: int) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "agent_loop.py"), "--seed", str(seed)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=dict(os.environ, PYTHONPATH=str(ROOT / "src")),
    )
    assert result.returncode == 0, result.stderr
    assert "the phone is where the task wants it" in result.stdout
    assert "finished: " in result.stdout
    steps = len(re.findall(r"^\d+\. ", result.stdout, re.M))
    assert steps >= 2
    assert len(re.findall(r"ms to the action", result.stdout)) == steps
