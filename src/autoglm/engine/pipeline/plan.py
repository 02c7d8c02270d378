"""Who holds which layers: decided by rank 0 before anything is loaded, told to the others."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from autoglm.engine.config import EngineConfig
from autoglm.engine.pipeline.measure import estimate, measure
from autoglm.errors import InvalidInputError
from autoglm.model.loading import empty_model
from autoglm.parallel.pipeline.microbatch import RowCost
from autoglm.parallel.pipeline.partition import Partition, partition, stage_time

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages, and what a token costs in one of them (any unit)."""

    partition: Partition
    row: RowCost


def plan_stages(path: Path, config: EngineConfig, device: torch.device) -> Plan:
    """By the bounds that the options give, or measured.

    Raises:
        InvalidInputError: bounds that are none, or more stages than layers. Further as loading does.
    """
    model = empty_model(path)
    if config.pipeline_bounds:
        layers = len(model.decoder.layers)
        return Plan(given_bounds(config, layers), estimate(model))
    dtype = torch.float32 if config.dtype == "auto" else getattr(torch, config.dtype)
    if config.dtype == "auto" and device.type == "cuda":
        dtype = torch.bfloat16
    found = measure(model, dtype, device)
    chosen = partition(found.costs, config.pipeline_parallel_size)
    times = [stage_time(found.costs, stage) for stage in chosen.stages()]
    log.info(
        "pipeline: stages begin at layers %s, vision on stage %d, predicted times %s",
        list(chosen.bounds),
        chosen.vision,
        ", ".join(f"{1e3 * seconds:.1f} ms" for seconds in times),
    )
    return Plan(chosen, found.row)


def given_bounds(config: EngineConfig, layers: int) -> Partition:
    """``pipeline_bounds`` as a partition, the vision tower on the first stage."""
    try:
        bounds = tuple(int(part) for part in config.pipeline_bounds.split(","))
    except ValueError:
        bounds = ()
    rising = all(a < b for a, b in zip(bounds, (*bounds, layers)[1:], strict=True))
    if len(bounds) != config.pipeline_parallel_size or bounds[0] != 0 or not rising:
        raise InvalidInputError(
            f"pipeline_bounds {config.pipeline_bounds!r} must be {config.pipeline_parallel_size} rising numbers of "
            f"layers, the first 0 and the last below {layers}",
            field="pipeline_bounds",
            limit=layers - 1,
            value=config.pipeline_bounds,
        )
    return Partition(bounds, layers, 0)
