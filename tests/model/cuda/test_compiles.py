"""Every kernel passes the compiler of a GPU, which the interpreter does not show."""

from __future__ import annotations

import os
import subprocess
import sys


def test_all_kernels_compile_for_an_h100() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "tests.model.cuda.compile_kernels"]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 18
