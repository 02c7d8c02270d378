"""One tiny checkpoint for all suites, and no time limit on what a random test draws and does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from autoglm.synthetic import make_checkpoint

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

if not torch.cuda.is_available():
    # Before anything imports Triton: its kernels then run on the CPU, one program after the other.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in the published layout, tokenizer and all."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), "tiny")
