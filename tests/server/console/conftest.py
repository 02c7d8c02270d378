from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.console.live import Console, scripted


@pytest.fixture(scope="session")
def shared_expert() -> Iterator[Console]:
    """One console with an expert for all tests that remove their phones."""
    with scripted(max_phones=6, max_viewers=2) as console:
        yield console


@pytest.fixture
def expert(shared_expert: Console) -> Iterator[Console]:
    """The shared console, empty after each test."""
    yield shared_expert
    for phone in shared_expert.http.get("/phones").json()["phones"]:
        assert shared_expert.http.delete(f"/phones/{phone['id']}").status_code == 204
