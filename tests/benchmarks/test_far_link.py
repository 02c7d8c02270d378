"""The far link between two hosts: delay and rate hold, bytes arrive whole, and nothing of it stays. Needs root."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from benchmarks.far_link import far_link
from benchmarks.slow_link import possible

BITS, DELAY, BYTES = 8e6, 0.02, 40_000
LIMIT = 120.0
TALK = """
import hashlib, json, os, socket, time
at, count = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), int(os.sys.argv[1])
data = bytes(i * i % 251 for i in range(count))
if os.environ["RANK"] == "0":
    with socket.create_server(at) as listener, listener.accept()[0] as line:
        start = time.perf_counter()
        line.sendall(b"?")
        line.recv(1)
        trip = time.perf_counter() - start
        start = time.perf_counter()
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        said = line.makefile("rb").read().decode()
        sent = time.perf_counter() - start
    print(json.dumps({"trip": trip, "sent": sent, "whole": said == hashlib.sha256(data).hexdigest()}))
else:
    while True:
        try:
            line = socket.create_connection(at)
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    line.sendall(line.recv(1))
    line.sendall(hashlib.sha256(line.makefile("rb").read()).hexdigest().encode())
    line.close()
"""


@pytest.mark.skipif(not possible(), reason="this process may not make network namespaces")
def test_two_far_hosts_talk_and_leave_nothing_behind() -> None:
    with far_link(BITS, DELAY) as hosts:
        found = json.loads(hosts.run([sys.executable, "-c", TALK, str(BYTES)], LIMIT))
        # A busy machine makes a link slower, never faster than it is meant to be.
        assert found["trip"] >= 2 * DELAY
        assert found["sent"] >= 8 * BYTES / BITS + 2 * DELAY
        assert found["whole"]
        with pytest.raises(RuntimeError, match="no such rank"):
            hosts.run([sys.executable, "-c", "raise SystemExit('no such rank')"], LIMIT)
        assert set(hosts.names) <= namespaces()
    assert not set(hosts.names) & namespaces()


def test_only_root_may_make_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PermissionError, match="root"), far_link(BITS, DELAY):
        pass


def namespaces() -> set[str]:
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in done.stdout.splitlines()}
