"""A replica's mesh with the fastest communicators that its options allow."""

from __future__ import annotations

import dataclasses

import torch

from autoglm.engine.config import EngineConfig
from autoglm.parallel.fast import fast_communicator
from autoglm.parallel.mesh import Mesh


def quickened(mesh: Mesh, device: torch.device, config: EngineConfig, timeout: float) -> Mesh:
    """The tensor group on shared memory and codecs; pipeline messages go from rank to rank as they are.

    NCCL has its own ways within a host: on CUDA the mesh stays as it is. ``timeout``: seconds after which a rank that
    lives and does not come to a sum counts as hung; a dead one is noticed at once.
    """
    if device.type != "cpu":
        return mesh
    tensor = fast_communicator(
        mesh.tensor,
        timeout=timeout,
        shared_memory=config.shared_memory,
        compression=config.compression,
    )
    return dataclasses.replace(mesh, tensor=tensor)
