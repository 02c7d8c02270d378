"""The communication benchmarks in their smallest form: their parts run, and their pages are made from their rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoglm.model.resolve import PACKAGED, resolve_checkpoint
from autoglm.parallel.collectives import ALONE
from benchmarks import compression_worker, results
from benchmarks.compression import write_tables
from benchmarks.compression_quality import GATE, qualities
from benchmarks.compression_screens import kv_sizes, screen_sizes
from benchmarks.rows import finished, row, table, with_section


def test_screens_and_blocks_are_exact_and_small() -> None:
    found = screen_sizes(3)
    assert 5 * sum(found.coded) < sum(found.patches)
    assert sum(found.coded) < sum(found.png)
    questions = ("open the settings " * 10, "go to the home screen " * 10)
    whole, missing, coded = kv_sizes(resolve_checkpoint(PACKAGED), "a b c d e f " * 40, questions)
    assert 0 < coded < missing * 1.01
    assert missing < whole / 2


def test_int8_passes_the_gate_and_a_tenth_of_the_values_does_not() -> None:
    found = qualities(resolve_checkpoint(PACKAGED), 8)
    assert found["bf16"].mean_divergence < GATE
    assert found["int8"].mean_divergence < GATE
    assert found["int8"].agreement > 0.95
    assert found["int4"].mean_divergence > found["int8"].mean_divergence
    assert found["top 10 %"].mean_divergence > GATE


def test_every_method_of_a_link_runs_on_one_rank() -> None:
    names = list(compression_worker.methods(ALONE, torch.ones(compression_worker.WIDTH)))
    found = compression_worker.measure(ALONE, 4, 1, 0.0, ["fp32", "bf16", "top 10 %"])
    assert set(found) <= set(names)
    assert found["fp32"]["error"] == 0


def test_pages_are_made_of_rows(tmp_path: Path) -> None:
    rows = [
        row("link 1gbit", "fp32", "time", [4.0, 2.0, 3.0], "ms"),
        row("link 1gbit", "int8", "time", [1.0], "ms", baseline="fp32", against=[3.0]),
        row("screens", "coded", "mean size", [10.0], "bytes"),
    ]
    assert (rows[0].value, rows[0].best, rows[1].ratio) == (3.0, 2.0, 3.0)
    result = finished("compression", rows, {}, 0.0)
    results.validate(result)
    page = tmp_path / "parallel.md"
    sections = ("links", "sparse", "updates", "quality")
    page.write_text("\n".join(f"<!-- {s}:start -->\nold\n<!-- {s}:end -->" for s in sections), encoding="utf-8")
    write_tables(page, result)
    text = page.read_text(encoding="utf-8")
    assert "| link 1gbit | int8 | time | 1 ms | 1 | 3.00 × fp32 |" in text
    assert "old" not in text
    assert table(result, ["screens"]).count("\n| ") == 1
    with pytest.raises(ValueError, match="must hold"):
        with_section("nothing here", "links", "new")
