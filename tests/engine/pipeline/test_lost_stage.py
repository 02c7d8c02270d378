"""A stage that dies."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from autoglm.errors import RankLostError
from autoglm.messages import SamplingParams
from tests.engine.harness import Driver, engine_of, user


def test_a_lost_stage_is_an_error_and_does_not_hang(checkpoint: Path) -> None:
    engine = engine_of(checkpoint, pipeline_parallel_size=2, pipeline_bounds="0,1", max_batch_tokens=128)
    try:
        driver = Driver(engine)
        driver.submit([user("word " * 40)], SamplingParams(temperature=0.0, max_tokens=200))
        for _ in range(4):
            driver.step()
        (process,) = (p for p in psutil.Process().children() if "autoglm.engine.ranks.worker" in p.cmdline())
        process.kill()
        with pytest.raises(RankLostError, match="rank 1"):
            driver.drain()
    finally:
        engine.close()
