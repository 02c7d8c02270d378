"""One tiny checkpoint for all suites."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoglm.synthetic import make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in the published layout, tokenizer and all."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), "tiny")
