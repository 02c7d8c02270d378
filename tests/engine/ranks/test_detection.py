"""What rank 0 sees of a rank that dies or hangs in the middle of a request; the rank is a forked process."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import pytest

from autoglm.engine import Engine, EngineConfig
from autoglm.engine.ranks import group as group_module
from autoglm.engine.ranks import worker as worker_module
from autoglm.engine.ranks.loading import place_of
from autoglm.errors import RankLostError
from autoglm.messages import SamplingParams
from autoglm.parallel.world import World
from tests.engine.harness import Driver, user
from tests.engine.ranks.harness import OPTIONS, free_port, mesh_without_registry


def forked_rank(checkpoint: Path, config: EngineConfig, port: int) -> int:
    """Process id of rank 1."""
    pid = os.fork()
    if pid == 0:
        gc.disable()  # a group of an earlier test, freed here, would wait for its threads, which are not here
        try:
            world = World(1, 2, "127.0.0.1", port, agent_store=False)
            worker_module.work(checkpoint, config, place_of(config, 1), world.channel, child=False)
        finally:
            os._exit(1)
    return pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_rank_is_noticed(checkpoint: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    config = EngineConfig(**OPTIONS | {"tensor_parallel_size": 2, "rank_timeout": 8.0})
    port = free_port()
    for module in (group_module, worker_module):
        monkeypatch.setattr(module, "join_mesh", mesh_without_registry)
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    pid = forked_rank(checkpoint, config, port)
    try:
        engine = Engine.from_checkpoint(checkpoint, config)
        assert engine.ranks is not None
        # Here rank 0 does not own the other's process; where it does, it ends it, which this stands for.
        end_all = engine.ranks._children.kill
        monkeypatch.setattr(engine.ranks._children, "kill", lambda: (os.kill(pid, signal.SIGKILL), end_all()))
        driver = Driver(engine)
        driver.submit([user("Hi")], SamplingParams(temperature=0.0, max_tokens=20_000, ignore_eos=True))
        for _ in range(6):
            driver.step()
        os.kill(pid, number)
        with pytest.raises(RankLostError) as caught:
            driver.drain()
        assert caught.value.retryable
        engine.close()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
