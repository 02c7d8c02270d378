"""Tiny checkpoints of both layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoglm.synthetic import make_phone_checkpoint


@pytest.fixture(scope="session")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the described layout, ``autoglm_phone``."""
    return make_phone_checkpoint(tmp_path_factory.mktemp("phone"))


@pytest.fixture(params=["glm4v", "autoglm_phone"])
def folder(request: pytest.FixtureRequest, checkpoint: Path, phone: Path) -> Path:
    """Each layout in turn."""
    return checkpoint if request.param == "glm4v" else phone
