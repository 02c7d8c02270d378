"""One tiny checkpoint for all suites."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from autoglm.synthetic import make_checkpoint

if not torch.cuda.is_available():
    # Before anything imports Triton: its kernels then run on the CPU, one program after the other.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in the published layout, tokenizer and all."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), "tiny")
