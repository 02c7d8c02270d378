"""The flights of an engine whose runner is a pipeline."""

from __future__ import annotations

from autoglm.engine.config import EngineConfig
from autoglm.engine.pipeline.flights import Flights, Limits
from autoglm.engine.pipeline.runner import PipelineRunner
from autoglm.engine.runner import ModelRunner

SMALLEST = 32
"""Prefill tokens of a micro-batch, below which its overhead is more than what it hides."""


def flights_of(runner: ModelRunner, config: EngineConfig) -> Flights | None:
    """``None``: the engine runs one step at a time."""
    if not isinstance(runner, PipelineRunner):
        return None
    stages = config.pipeline_parallel_size
    limits = Limits(
        in_flight=config.pipeline_in_flight or stages,
        micro_batches=config.pipeline_micro_batches or 2 * stages,
        smallest=SMALLEST,
        cost=runner.row_cost,
    )
    return Flights(runner, limits)
