"""What a rank is made of: ranks that differ in it must not compute together."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

import autoglm
from autoglm.engine.config import EngineConfig
from autoglm.engine.ranks.messages import PROTOCOL, Hello
from autoglm.errors import RankMismatchError
from autoglm.model.identity import checkpoint_digest
from autoglm.parallel.mesh import Place

_OWN_AFFAIR = {"device": "auto", "threads": 0}
"""Options that may differ from host to host, with the value that stands for any."""


def hello(path: Path, config: EngineConfig, place: Place) -> Hello:
    """This rank's. Reads a sample of the checkpoint; raises as loading does."""
    return Hello(
        protocol=PROTOCOL,
        rank=place.rank,
        world_size=place.world_size,
        version=autoglm.__version__,
        torch=str(torch.__version__),
        checkpoint=checkpoint_digest(path),
        config=msgspec.json.encode(msgspec.structs.replace(config, **_OWN_AFFAIR)),
    )


def mismatch(own: Hello, theirs: Hello) -> RankMismatchError | None:
    """Why rank 0 cannot take a rank; ``None``: it can."""
    names = {"protocol": "protocol", "world_size": "world size", "version": "autoglm version", "torch": "torch version"}
    for field, name in names.items():
        mine, its = getattr(own, field), getattr(theirs, field)
        if mine != its:
            return RankMismatchError(
                f"rank {theirs.rank} has {name} {its}, rank 0 has {mine}", field=field, limit=mine, value=its
            )
    if not 0 < theirs.rank < own.world_size:
        return RankMismatchError(
            f"rank {theirs.rank} is none of 1 to {own.world_size - 1}", field="rank", limit=own.world_size - 1
        )
    if own.checkpoint != theirs.checkpoint:
        return RankMismatchError(
            f"rank {theirs.rank} has another checkpoint: digest {theirs.checkpoint.hex()[:12]}, "
            f"rank 0 has {own.checkpoint.hex()[:12]}",
            field="checkpoint",
            limit=own.checkpoint.hex(),
            value=theirs.checkpoint.hex(),
        )
    if own.config != theirs.config:
        return RankMismatchError(f"rank {theirs.rank} was started with other engine options", field="config")
    return None
