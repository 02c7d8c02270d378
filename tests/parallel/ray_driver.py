"""What the Ray test does, in a process of its own (Ray's threads and hooks would outlive the test in pytest's)."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request

import ray

from autoglm.parallel.ray_adapter import RayReplica, ReplicaPlan, start_replicas

LIMIT = 300.0


def main(cluster: str, checkpoint: str, port: str) -> None:
    """Two ranks on two CPU workers serve a completion; one is lost and all come back; then everything is stopped."""
    ray.init(cluster, _node_ip_address=cluster.split(":", maxsplit=1)[0], log_to_driver=False)
    serve = ("-m", "autoglm.cli", "serve", checkpoint, "--host", "{host}", "--port", port)
    few = ("--tensor-parallel-size", "2", "--threads", "1", "--kv-cache-bytes", "8000000", "--no-console")
    plan = ReplicaPlan(
        command=(sys.executable, *serve, *few),
        ranks=2,
        variables={"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    (replica,) = start_replicas(plan, 1)
    url = f"http://{replica.host}:{port}/v1"
    first = completion(url, replica)
    running = replica.lost() is None
    ray.get(replica._actors[1].stop.remote(5.0))
    lost = replica.lost()
    replica.restart()
    again = completion(url, replica)
    replica.stop()
    freed = all_free()
    ray.shutdown()
    found = {"running": running, "lost": lost and lost.value, "first": first, "again": again, "freed": freed}
    print(json.dumps(found | {"restarts": replica.restarts}))


def all_free() -> bool:
    """Whether every CPU is given back; Ray hears of it a little later."""
    until = time.monotonic() + LIMIT
    while ray.available_resources().get("CPU", 0.0) != ray.cluster_resources()["CPU"]:
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def completion(url: str, replica: RayReplica) -> str:
    """A greedy answer, once the server is up. A refused request raises: asking again would not change it."""
    until = time.monotonic() + LIMIT
    while True:
        try:
            with urllib.request.urlopen(f"{url}/models", timeout=10) as reply:
                model = json.load(reply)["data"][0]["id"]
            body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
            request = urllib.request.Request(
                f"{url}/chat/completions",
                json.dumps(body | {"temperature": 0}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as reply:
                return str(json.load(reply)["choices"][0]["message"]["content"])
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise AssertionError(f"{error.code}: {error.read().decode()}") from error
            unanswered: Exception = error
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            unanswered = error
        if time.monotonic() > until or replica.lost() is not None:
            raise AssertionError(f"no answer: {unanswered}; {replica.lost()}") from unanswered
        time.sleep(0.3)


if __name__ == "__main__":
    main(*sys.argv[1:])
