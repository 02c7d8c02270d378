"""What the quick Ray test does, in a process of its own: ranks that only write down what they were told."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import ray

from autoglm.parallel.ray_adapter import RayReplica, ReplicaPlan, start_replicas

_RANK = """
import json, os, pathlib, signal, sys
told = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
path = pathlib.Path(sys.argv[1], told["RANK"])
path.with_suffix(".part").write_text(json.dumps(told | {"host": sys.argv[2], "pid": os.getpid()}))
path.with_suffix(".part").rename(path)
signal.pause()
"""


def main(cluster: str, folder: str) -> None:
    """Place two ranks, lose one, restart both, stop them."""
    ray.init(cluster, _node_ip_address=cluster.split(":", maxsplit=1)[0], log_to_driver=False)
    plan = ReplicaPlan(command=(sys.executable, "-S", "-c", _RANK, folder, "{host}"), ranks=2)
    (replica,) = start_replicas(plan, 1)
    first = told(replica, Path(folder))
    running = replica.lost() is None
    ray.get(replica._actors[1].stop.remote(5.0))
    lost = replica.lost()
    replica.restart()
    again = told(replica, Path(folder))
    replica.stop()
    found = {"running": running, "lost": lost and lost.value, "first": first, "again": again}
    print(json.dumps(found | {"restarts": replica.restarts, "actors": len(replica._actors)}))
    ray.shutdown()


def told(replica: RayReplica, folder: Path) -> list[dict[str, str]]:
    """What each rank was told; the files are gone after."""
    paths = [folder / str(rank) for rank in range(replica.plan.ranks)]
    while not all(path.exists() for path in paths):
        time.sleep(0.02)
    found = [json.loads(path.read_text()) for path in paths]
    for path in paths:
        path.unlink()
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
