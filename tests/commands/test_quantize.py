"""``autoglm quantize`` on the phone client's own prompts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autoglm.cli import main

PROMPT = Path(__file__).parents[2] / "examples" / "open-autoglm" / "system_en.txt"


def test_report_and_gate(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOGLM_CACHE_DIR", str(tmp_path))
    arguments = ["quantize", str(checkpoint), "--prompts", str(PROMPT)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    figures = {
        scheme: [float(x) for x in re.findall(r"\d+\.\d+", next(line for line in out.splitlines() if scheme in line))]
        for scheme in ("int8", "int4")
    }
    assert 0 < figures["int8"][0] < figures["int4"][0]
    assert figures["int8"][2] > figures["int4"][2]
    assert len(list((tmp_path / "packed").glob("*.safetensors"))) == 2
    assert main([*arguments, "--scheme", "int4", "--max-divergence", "0"]) == 1
    assert "missed" in capsys.readouterr().out


def test_a_prompt_that_cannot_be_read(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", str(checkpoint), "--prompts", "no-such-file"]) == 2
    assert "no-such-file" in capsys.readouterr().err
