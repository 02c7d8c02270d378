"""Replicas placed by a local Ray of two CPU workers: they serve, a lost rank is seen, all come back, and stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autoglm.errors import InvalidInputError
from autoglm.parallel.ray_adapter import ReplicaPlan
from tests.parallel.ray_cluster import cluster, environment, free_ports


@pytest.mark.slow
def test_two_ranks_on_two_workers(checkpoint: Path) -> None:
    (port,) = free_ports(1)
    with cluster(cpus=2) as address:
        done = subprocess.run(
            [sys.executable, "-m", "tests.parallel.ray_driver", address, str(checkpoint), str(port)],
            cwd=Path(__file__).parents[2],
            env=environment() | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["running"]
    assert found["lost"] == 1
    assert found["restarts"] == 1
    assert found["first"] == found["again"]
    assert found["first"]
    assert found["freed"]


def test_plans_that_make_no_sense() -> None:
    with pytest.raises(InvalidInputError):
        ReplicaPlan(command=("autoglm",), ranks=0)
    with pytest.raises(InvalidInputError):
        ReplicaPlan(command=(), ranks=2)
