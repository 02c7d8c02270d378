"""One tiny checkpoint for all suites, and no time limit on what a random test draws and does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from autoglm.synthetic import make_checkpoint

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in the published layout, tokenizer and all."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), "tiny")
