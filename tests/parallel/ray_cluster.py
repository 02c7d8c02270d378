"""A Ray cluster of one host for a test: loopback only, its files in a folder that goes with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HOST = "127.0.0.2"
"""Loopback, and not the address that Ray takes for a mistake and replaces by the machine's own."""
_OBJECT_STORE = 100_000_000
_PORTS = (
    "--port",
    "--dashboard-port",
    "--dashboard-agent-grpc-port",
    "--dashboard-agent-listen-port",
    "--runtime-env-agent-port",
    "--metrics-export-port",
)
_ATTEMPTS = 8
"""Ray's node waits 15 seconds, and no setting makes it wait longer, until its agent has said on which port it listens.
On a machine that is busy the agent takes longer, the node gives up, and all begins again."""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_raylet_start_wait_time_s": "90",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_worker_niceness": "0",
}
"""No reports home, time enough on a busy machine, and no niceness of 15 for the workers, which the ranks would have."""


def environment() -> dict[str, str]:
    """Of everything that takes part."""
    return os.environ | _ENVIRONMENT


@contextmanager
def cluster(cpus: int) -> Iterator[str]:
    """Its address. Raises :class:`RuntimeError` with what Ray said, if it does not come up."""
    # Not pytest's folder: the paths of Ray's sockets would be longer than a socket's path may be.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "start.log"
        for _ in range(_ATTEMPTS):
            head, address = _start(cpus, folder, log)
            if _up(head, log):
                break
        else:
            raise RuntimeError(log.read_text())
        try:
            yield address
        finally:
            head.terminate()  # it takes its own processes along
            head.wait(120)


def _start(cpus: int, folder: str, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The process that holds the cluster, and the cluster's address."""
    ports = free_ports(len(_PORTS))
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address", HOST]
    few = ["--num-cpus", str(cpus), "--object-store-memory", str(_OBJECT_STORE), "--no-monitor"]
    quiet = ["--include-dashboard", "false", "--include-log-monitor", "false", "--disable-usage-stats"]
    named = [word for name, port in zip(_PORTS, ports, strict=True) for word in (name, str(port))]
    with log.open("wb") as sink:
        head = subprocess.Popen(
            [*start, *few, *quiet, *named, "--temp-dir", folder], env=environment(), stdout=sink, stderr=sink
        )
    return head, f"{HOST}:{ports[0]}"


def _up(head: subprocess.Popen[bytes], log: Path) -> bool:
    """Whether the node came up, or gave up."""
    while head.poll() is None:
        if "This command will now block" in log.read_text():
            return True
        time.sleep(0.5)
    return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]
