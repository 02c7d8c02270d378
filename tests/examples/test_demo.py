"""The demo from outside: its own server, its own phone, its own end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from autoglm.synthetic import make_phone_checkpoint

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def test_tasks_that_fail_are_a_failure(tmp_path: Path) -> None:
    """Random weights do no task: the demo must say so, and still end in order."""
    model = make_phone_checkpoint(tmp_path / "model")
    result = subprocess.run(
        [sys.executable, str(DEMO), "--headless", "--model", str(model)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert re.search(r"watch it at http://127\.0\.0\.1:\d+/console/#\w+", result.stdout)
    assert result.stdout.count("not done:") >= 3
    assert "prompt tokens from the prefix cache: " in result.stdout
    assert "server stopped with status 0" in result.stdout


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(DEMO), "--headless", "--model", str(tmp_path / "nothing")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 1
    assert "no checkpoint" in result.stdout


def test_it_stays_until_told(tmp_path: Path) -> None:
    model = make_phone_checkpoint(tmp_path / "model")
    with subprocess.Popen(
        [sys.executable, str(DEMO), "--model", str(model)], stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if "The console stays open at" in line:
                break
        assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        lines.append(demo.stdout.read())
        assert demo.wait(180) == 1  # random weights do no task
    assert "server stopped with status 0" in lines[-1]
