from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoglm.synthetic import make_checkpoint
from tests.server.harness import LiveServer, engine_command, png


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), "tiny")


@pytest.fixture(scope="session")
def image_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that may be read, with a link that leads out of it."""
    base = tmp_path_factory.mktemp("images")
    allowed = base / "allowed"
    allowed.mkdir()
    (allowed / "screen shot.png").write_bytes(png())
    (base / "secret.png").write_bytes(png())
    (allowed / "link.png").symlink_to(base / "secret.png")
    return allowed


@pytest.fixture(scope="session")
def shared_server(
    checkpoint: Path, image_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """One server for all tests that leave it as they found it."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    server = LiveServer(
        log, engine_command(checkpoint), image_hosts=["127.0.0.1"], image_directory=str(image_directory)
    )
    try:
        server.wait_ready()
        yield server
        assert server.stop() == 0
        assert "Traceback" not in log.read_text()
    finally:
        server.close()


@pytest.fixture
def server(shared_server: LiveServer) -> Iterator[LiveServer]:
    """The shared server; after each test it must be idle, whole, and the same engine as before."""
    yield shared_server
    shared_server.wait_idle()
    assert shared_server.health()["restarts"] == 0


@pytest.fixture(scope="session")
def strict_server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Keys, and every limit low."""
    server = LiveServer(
        tmp_path_factory.mktemp("log") / "strict.log",
        engine_command(checkpoint),
        api_keys=["first-key", "second-key"],
        max_body_bytes=20_000,
        body_timeout=1.0,
        write_timeout=1.0,
        request_timeout=120.0,
        max_in_flight=2,
        grace=1.0,
    )
    try:
        server.wait_ready()
        yield server
        assert server.stop() == 0
    finally:
        server.close()
