"""The launch that docs/parallel.md describes, on two hosts: network namespaces with a link between them. Needs root."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.slow_link import Hosts, possible, slow_link

PORT = "8000"
ASK = """
import json, sys, urllib.request
url = sys.argv[1]
name = json.load(urllib.request.urlopen(url + "/models", timeout=10))["data"][0]["id"]
hello = [{"role": "user", "content": "hello"}]
body = json.dumps({"model": name, "messages": hello, "max_tokens": 4, "temperature": 0}).encode()
request = urllib.request.Request(url + "/chat/completions", body, {"Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(request, timeout=180))["usage"]["completion_tokens"])
"""


@pytest.mark.skipif(not possible(), reason="this process may not make network namespaces")
@pytest.mark.parametrize("launch", ["by hand", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_a_replica_over_two_hosts_serves(checkpoint: Path, launch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with slow_link(2, "none") as hosts:
        serve = ["-m", "autoglm.cli", "serve", str(checkpoint), "--tensor-parallel-size", "2", "--no-console"]
        serve += ["--host", hosts.address(0), "--port", PORT, "--threads", "1", "--kv-cache-bytes", "8000000"]
        command = [sys.executable, *serve]
        if launch == "torchrun":
            meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts.address(0)}:29400", "--nnodes", "2"]
            command = [sys.executable, "-m", "torch.distributed.run", *meet, "--nproc-per-node", "1", *serve]
        running = [hosts.start(rank, command) for rank in range(2)]
        try:
            assert answer(hosts, running) == "4"
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.communicate(timeout=180)


def answer(hosts: Hosts, running: list[subprocess.Popen[str]]) -> str:
    """What the first host's server says, once it is up."""
    until = time.monotonic() + 300
    ask = ["ip", "netns", "exec", hosts.names[0], sys.executable, "-c", ASK, f"http://{hosts.address(0)}:{PORT}/v1"]
    while True:
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        dead = [process for process in running if process.poll() is not None]
        assert not dead, dead[0].communicate()[1][-3000:]
        assert time.monotonic() < until, done.stderr[-1000:]
        time.sleep(0.5)
