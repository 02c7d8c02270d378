"""The command line, as a user runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from autoglm.cli import main
from autoglm.prompt.synthetic_images import encode, screenshot


def test_inspect(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(checkpoint), "--context", "1000", "--batch", "2"]) == 0
    out = capsys.readouterr().out
    for part in ("layout glm4v", "8,096,640", "KV of 2 x 1000 tokens"):
        assert part in out


def test_inspect_of_a_wrong_context(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(checkpoint), "--context", "99999999"]) == 2
    assert "--context must be between 1 and 32768" in capsys.readouterr().err


def test_generate(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "screen.png"
    image.write_bytes(encode(screenshot(112, 168, seed=1), "PNG"))
    arguments = ["generate", str(checkpoint), "open", "--image", str(image), "--max-tokens", "5", "--threads", "1"]
    assert main([*arguments, "--kv-cache-bytes", "8000000"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip()
    assert "5 new (length)" in " ".join(captured.err.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-folder", "Hi"], "no-such-folder"),
        (["CHECKPOINT", "Hi", "--image", "no-such.png"], "no-such.png"),
        (["CHECKPOINT", "Hi", "--max-tokens", "0"], "max_tokens"),
        (["CHECKPOINT", "Hi", "--temperature", "-1"], "temperature"),
        (["CHECKPOINT", "Hi", "--block-size", "0"], "block_size"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    says: str,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["generate", *(str(checkpoint) if a == "CHECKPOINT" else a for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_serve(checkpoint: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret-key\n")
    command = [sys.executable, "-m", "autoglm.cli", "serve", str(checkpoint), "--port", "0", "--threads", "1"]
    with subprocess.Popen(
        [*command, "--api-key-file", str(keys), "--kv-cache-bytes", "8000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline(), server.stdout.readline()]
        assert lines[0].startswith("autoglm listens on http://127.0.0.1:")
        url = lines[1].removeprefix("ready: ").strip()
        assert httpx.get(f"{url}/models").status_code == 401
        assert httpx.get(f"{url}/models", headers={"Authorization": "Bearer secret-key"}).status_code == 200
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=120)
        assert server.returncode == 0
        assert "secret-key" not in log


def test_a_taken_port_is_named(checkpoint: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = subprocess.run(
            [sys.executable, "-m", "autoglm.cli", "serve", str(checkpoint), "--port", port],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    assert result.returncode == 2
    assert f"port {port}" in result.stderr
