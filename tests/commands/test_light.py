"""What the server's process does without: it has no model in it."""

from __future__ import annotations

import subprocess
import sys


def test_the_server_starts_without_torch() -> None:
    script = "import sys, autoglm.commands.serve, autoglm.server; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
