from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.agent.model_server import ModelServer, model_server


@pytest.fixture(scope="session")
def shared_model() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
def model(shared_model: ModelServer) -> Iterator[ModelServer]:
    """The scripted server; no stream may be left open by a test."""
    shared_model.script('finish(message="unscripted")')
    yield shared_model
    end = time.monotonic() + 120
    while shared_model.open_streams and time.monotonic() < end:
        time.sleep(0.01)
    assert shared_model.open_streams == 0
