"""A phone's state is named alike in every process."""

from __future__ import annotations

import os
import subprocess
import sys

SHOW = """
from autoglm.agent.devices.simulated import PhoneSpec, SimulatedPhone
from autoglm.server.console.suggestions import Suggestions
phone = SimulatedPhone(PhoneSpec.random(7, "en", "light"))
print(phone.signature(), Suggestions(phone).draw())
"""


def test_signatures_do_not_depend_on_the_process() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", SHOW],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
