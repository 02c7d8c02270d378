"""Make a replica: one process, or rank 0 of several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from autoglm.cache import VisualCache
from autoglm.engine.config import EngineConfig
from autoglm.engine.ranks.group import RankGroup, rank_threads, start_ranks
from autoglm.engine.ranks.loading import check_shares, device_of, load_part, place_of
from autoglm.engine.ranks.runner import RankRunner
from autoglm.engine.runner import ModelRunner
from autoglm.model.context import ImageFeatures
from autoglm.model.registry import Model


def start_replica(
    path: Path, config: EngineConfig, progress: Callable[[int, int], None] | None
) -> tuple[Model, RankGroup]:
    """Start the other ranks, and load rank 0's part of the weights while they load theirs.

    Raises:
        InvalidInputError: it cannot be shared out.
        RankMismatchError, RankLostError: see :func:`autoglm.engine.ranks.group.start_ranks`. Further as loading does.
    """
    check_shares(path, config)
    device = device_of(config, place_of(config, 0))
    torch.set_num_threads(rank_threads(config))
    group = start_ranks(path, config, device)
    try:
        return load_part(path, config, device, group.mesh, progress), group
    except BaseException:
        group.close()
        raise


def runner_of(
    model: Model,
    num_blocks: int,
    config: EngineConfig,
    visual: VisualCache[ImageFeatures],
    ranks: RankGroup | None,
) -> ModelRunner:
    """What runs the engine's steps."""
    if ranks is None:
        return ModelRunner(model, num_blocks, config, visual)
    return RankRunner(model, num_blocks, config, visual, ranks)
