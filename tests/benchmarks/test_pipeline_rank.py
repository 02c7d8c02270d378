"""The ranks of the pipeline benchmark in their smallest form: what they run is what they are asked to measure."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from benchmarks import pipeline
from benchmarks.pipeline_rank import throughput
from tests.engine.harness import engine_of


def test_every_request_is_answered_in_full(checkpoint: Path) -> None:
    engine = engine_of(checkpoint, prefix_caching=False)
    options = argparse.Namespace(requests=[1, 3], prompt=8, answer=3, repetitions=1)
    found = throughput(engine, options)
    assert set(found) == {"1", "3"}
    assert all(value > 0 for metrics in found.values() for value in metrics.values())
    assert not engine.has_work
    runs = options.repetitions + 1
    stats = engine.stats()
    assert stats.generated_tokens == runs * options.answer * sum(options.requests)
    assert stats.prompt_tokens == runs * options.prompt * sum(options.requests)
    engine.close()


@pytest.mark.whole_machine
def test_two_ranks_measure_their_bubble(checkpoint: Path) -> None:
    config = {"pipeline_parallel_size": 2, "pipeline_bounds": "0,2", "native_decode": False, "prefix_caching": False}
    config |= {"threads": 2, "kv_cache_bytes": 8_000_000}
    command = [sys.executable, "-m", "benchmarks.pipeline_rank", str(checkpoint), "--engine", json.dumps(config)]
    command += ["--work", "bubble", "--prompt", "48", "--each", "--ballast", "0.05", "--repetitions", "1"]
    found = json.loads(pipeline._two_ranks([*command, "--micro-batches", "1", "4"], 300).splitlines()[-1])
    assert set(found) == {"1", "4"}
    # One micro-batch is on one stage at a time, so half of the time is idle at best; four overlap, as the stages sleep.
    assert 0.49 < found["1"]["bubble"] < 1
    assert 0 < found["4"]["bubble"] < found["1"]["bubble"]
