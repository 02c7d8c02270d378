"""Replicas placed by a local Ray of two CPU workers: a lost rank is seen, all come back, and stop; and they serve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from autoglm.errors import InvalidInputError
from autoglm.parallel.ray_adapter import ReplicaPlan
from tests.parallel.ray_cluster import HOST, cluster, environment, free_ports


@pytest.mark.slow
def test_two_ranks_on_two_workers_serve(checkpoint: Path) -> None:
    (port,) = free_ports(1)
    with cluster(cpus=2) as address:
        found = driven("ray_driver", address, str(checkpoint), str(port), limit=900)
    assert found["running"]
    assert found["lost"] == 1
    assert found["restarts"] == 1
    assert found["first"] == found["again"]
    assert found["first"]
    assert found["freed"]


def test_ranks_are_placed_told_who_they_are_missed_and_started_again(tmp_path: Path) -> None:
    with cluster(cpus=2) as address:
        found = driven("ray_placement", address, str(tmp_path), limit=300)
    assert found["running"]
    assert found["lost"] == 1
    assert found["restarts"] == 1
    lives = (found["first"], found["again"])
    for life in lives:
        assert [rank["RANK"] for rank in life] == ["0", "1"]
        assert {rank["WORLD_SIZE"] for rank in life} == {"2"}
        assert {rank["MASTER_ADDR"] for rank in life} == {rank["host"] for rank in life} == {HOST}
        assert len({rank["MASTER_PORT"] for rank in life}) == 1
    pids = {rank["pid"] for life in lives for rank in life}
    assert len(pids) == 4
    assert not any(psutil.pid_exists(pid) for pid in pids)


def driven(module: str, *arguments: str, limit: float) -> dict[str, Any]:
    """What a driver, in a process of its own, found; within ``limit`` seconds."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.parallel.{module}", *arguments],
        cwd=Path(__file__).parents[2],
        env=environment() | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_plans_that_make_no_sense() -> None:
    with pytest.raises(InvalidInputError):
        ReplicaPlan(command=("autoglm",), ranks=0)
    with pytest.raises(InvalidInputError):
        ReplicaPlan(command=(), ranks=2)
