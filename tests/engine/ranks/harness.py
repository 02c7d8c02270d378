"""A replica whose other ranks are threads: the real worker, channel, loading and gloo, but no process to start."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._C._distributed_c10d import PrefixStore, ProcessGroupGloo, Store

from autoglm.engine import Engine, EngineConfig
from autoglm.engine.ranks import group as group_module
from autoglm.engine.ranks import worker as worker_module
from autoglm.engine.ranks.loading import place_of
from autoglm.parallel.collectives import TorchCommunicator
from autoglm.parallel.mesh import Mesh, Place
from autoglm.parallel.world import World

OPTIONS: dict[str, Any] = {"kv_cache_bytes": 4 * 2**20, "threads": 1, "native_decode": False, "rank_timeout": 60.0}


def mesh_without_registry(store: Store, place: Place, device: torch.device, timeout: float) -> Mesh:
    """As ``join_mesh`` for one stage; torch's registry allows one default group in a process, this needs none."""
    assert device.type == "cpu"
    assert place.pipeline_size == 1
    inside = PrefixStore("tensor", store)
    return Mesh(
        place,
        tensor=TorchCommunicator(ProcessGroupGloo(inside, place.rank, place.world_size, timedelta(seconds=timeout))),
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def replica(checkpoint: Path, size: int, **changes: Any) -> Iterator[Engine]:
    """An engine of ``size`` ranks, started as on several hosts: by the environment."""
    config = EngineConfig(**OPTIONS | changes | {"tensor_parallel_size": size})
    port = free_port()
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        world = World(rank, size, "127.0.0.1", port, agent_store=False)
        try:
            worker_module.work(checkpoint, config, place_of(config, rank), world.channel, child=False)
        except BaseException as error:
            errors.append(error)  # the caller's to judge

    with pytest.MonkeyPatch.context() as patch:
        for module in (group_module, worker_module):
            patch.setattr(module, "join_mesh", mesh_without_registry)
        patch.setattr(worker_module, "_end", lambda reason, parent: None)  # else it would end this process
        for name, value in {"RANK": 0, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            patch.setenv(name, str(value))
        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(1, size)]
        for thread in threads:
            thread.start()
        try:
            engine = Engine.from_checkpoint(checkpoint, config)
            try:
                yield engine
            finally:
                engine.close()
                for thread in threads:
                    thread.join(30)
            assert not errors
        finally:
            for thread in threads:
                thread.join(30)
            assert not any(thread.is_alive() for thread in threads)


def with_heads(checkpoint: Path, target: Path, heads: int) -> Path:
    """A copy whose vision tower has another number of heads; no weight's shape depends on it."""
    shutil.copytree(checkpoint, target)
    config = json.loads((target / "config.json").read_text())
    config["vision_config"]["num_heads"] = heads
    (target / "config.json").write_text(json.dumps(config))
    return target
