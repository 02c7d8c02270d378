"""``autoglm agent``: as a user runs it, against a real scripted server; with a terminal and without."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from autoglm.agent.actions import Tap
from autoglm.agent.devices.base import Screenshot
from autoglm.agent.events import (
    Decided,
    Ended,
    Outcome,
    OutputRejected,
    StepStarted,
    StepTimed,
    ThoughtDelta,
    Waterfall,
)
from autoglm.agent.model_client import Usage
from autoglm.cli import main
from autoglm.commands.agent import STATUS
from autoglm.commands.agent_view import LiveView, PlainView
from tests.agent.devices.adb_server import adb_server
from tests.agent.model_server import ModelServer, Refuse, Reply, Say, model_server

SOURCE = Path(__file__).parents[2] / "src"
ENVIRONMENT = dict(os.environ, PYTHONPATH=str(SOURCE), OMP_NUM_THREADS="1", TERM="xterm-256color", COLUMNS="100")
TASK = "open the settings"
DONE = 'finish(message="好了")'
PAY = 'do(action="Tap", element=[1,1], message="pay 5 yuan")'


@pytest.fixture(scope="module")
def shared_model() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
def model(shared_model: ModelServer) -> ModelServer:
    shared_model.script(DONE)
    return shared_model


def command(model: ModelServer, *options: str) -> list[str]:
    return ["agent", TASK, "--base-url", model.url, *options]


def test_a_task_in_plain_lines(model: ModelServer, capsys: pytest.CaptureFixture[str]) -> None:
    model.script('<think>the icon\nis there</think><answer>do(action="Home")', DONE)
    assert main(command(model, "--seed", "3", "--language", "zh", "--theme", "dark")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"task: {TASK} (on simulated phone 3 (zh, dark))"
    assert lines[1].startswith("step 1: System Home (")
    assert lines[2:5] == ["thought: the icon is there", 'action: do(action="Home")', "nothing changed"]
    assert re.fullmatch(r"time: capture \d+ \+ encode \d+ \+ prefill \d+ \+ decode \d+ \+ act \d+ ms; "
                        "60 of 100 prompt tokens cached", lines[5])  # fmt: skip
    assert lines[-1] == "finished after 2 steps: 好了"
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("replies", "options", "outcome"),
    [
        ([DONE], [], Outcome.FINISHED),
        ([PAY, DONE], ["--yes"], Outcome.FINISHED),
        ([PAY, DONE], [], Outcome.DENIED),  # nobody is there to ask
        (['do(action="Take_over", message="log in")'], ["--yes"], Outcome.DENIED),
        (['do(action="Home")'], ["--max-steps", "2"], Outcome.STEP_LIMIT),
        (['do(action="Home")'], [], Outcome.STUCK),
        (["I am done"], [], Outcome.UNPARSEABLE),
        ([Refuse(400, {"error": {"message": "no such thing"}})], [], Outcome.MODEL_ERROR),
    ],
)
def test_the_status_says_how_it_ended(
    model: ModelServer,
    replies: list[Reply | str],
    options: list[str],
    outcome: Outcome,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model.script(*replies)
    assert main(command(model, *options)) == STATUS[outcome]
    assert capsys.readouterr().out.splitlines()[-1].startswith(outcome.value.replace("_", " "))


def test_every_outcome_has_a_status_of_its_own() -> None:
    assert set(STATUS) == set(Outcome) - {Outcome.CANCELLED}  # which ends by signal
    assert len(set(STATUS.values()) | {1, 2}) == len(STATUS) + 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--device", "adb"], "needs --base-url"),
        (["--base-url", "http://127.0.0.1:1/v1", "--device", "ios"], "--device must be"),
        (["--base-url", "http://127.0.0.1:1/v1", "--max-steps", "0"], "max_steps"),
        (["--base-url", "http://127.0.0.1:1/v1", "--api-key-file", "no-such-file"], "no-such-file"),
        (["--base-url", "localhost:8000/v1"], "http://"),
        (["--base-url", "http://localhost:port/v1"], "not an address"),
    ],
)
def test_mistakes_are_one_line(options: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", TASK, *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_the_key_comes_from_file_or_environment(
    model: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOGLM_API_KEY", "key-of-environment")
    assert main(command(model)) == 0
    (tmp_path / "key").write_text("key-of-file\n")
    assert main(command(model, "--api-key-file", str(tmp_path / "key"))) == 0
    sent = [headers["authorization"] for headers in model.headers]
    assert sent == ["Bearer key-of-environment", "Bearer key-of-file"]
    captured = capsys.readouterr()
    assert "key-of" not in captured.out + captured.err


@pytest.mark.parametrize(
    ("task", "option", "begins"),
    [
        ("打开设置", "auto", "今天的日期"),
        ("open", "auto", "The current date"),
        ("open", "zh", "今天的日期"),
        ("x", "none", None),
    ],
)
def test_the_system_prompt(model: ModelServer, task: str, option: str, begins: str | None) -> None:
    assert main(["agent", task, "--base-url", model.url, "--system-prompt", option]) == 0
    first = model.requests[0]["messages"][0]
    assert first["content"].startswith(begins) if begins else first["role"] == "user"


def test_on_an_adb_phone(
    model: ModelServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with adb_server() as server:
        phone = server.add("emulator-5554")
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        model.script('do(action="Launch", app="WeChat")', DONE)
        assert main(command(model, "--device", "adb:emulator-5554")) == 0
        assert phone.front == "com.tencent.mm"
        assert main(command(model, "--device", "adb:other")) == STATUS[Outcome.DEVICE_ERROR]
    assert "no phone other is attached" in capsys.readouterr().err


def test_a_wrong_adb_port_is_named(
    model: ModelServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "99999")
    assert main(command(model, "--device", "adb")) == 2
    assert "ANDROID_ADB_SERVER_PORT" in capsys.readouterr().err


@pytest.fixture
def heeding_interrupts() -> Iterator[None]:
    """A job in the background of a shell is born deaf to SIGINT, and so would its children be."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_interrupts")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_run_cleanly(model: ModelServer, number: signal.Signals, status: int) -> None:
    model.script(Say("<think>long", then="hang"))
    with subprocess.Popen(
        [sys.executable, "-m", "autoglm.cli", *command(model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        wait_until(lambda: model.open_streams == 1 or process.poll() is not None)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "cancelled after 1 step" in out
    assert err == ""
    wait_until(lambda: model.open_streams == 0)


def test_a_person_at_the_terminal(model: ModelServer) -> None:
    answers = {b"do it? [y/N]": "y", b"Enter when done": "", b"pay again: do it? [y/N]": ""}
    model.script(PAY, 'do(action="Take_over", message="log in")', PAY.replace("5 yuan", "again"), DONE)
    status, screen = at_a_terminal(command(model), answers)
    assert status == STATUS[Outcome.DENIED]  # Enter alone is no consent
    assert "pay 5 yuan: do it?" in screen
    assert len(model.requests) == 3
    assert "\x1b[" in screen


def at_a_terminal(arguments: list[str], answers: dict[bytes, str]) -> tuple[int, str]:
    """Run on a pseudo-terminal; each answer is typed once its question is on the screen."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "autoglm.cli", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT
    ) as process:
        os.close(theirs)
        screen, waiting = b"", list(answers.items())
        try:
            while (part := read_some(ours)) != b"":
                screen += part
                if waiting and waiting[0][0] in screen:
                    os.write(ours, waiting.pop(0)[1].encode() + b"\n")
        finally:
            os.close(ours)
            status = process.wait(180)
    return status, screen.decode(errors="replace")


def read_some(terminal: int) -> bytes:
    """What was written; nothing once the other side has closed."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def wait_until(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_bars_share_one_scale() -> None:
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=200, color_system=None))
    view.begin("task", "phone")
    view.show(StepStarted(1, Screenshot(b"", 1, 2, "Home")))
    view.show(ThoughtDelta(1, "a\n"))
    view.show(ThoughtDelta(1, "b"))
    view.show(Decided(1, "a b", Tap((1, 2))))
    view.show(StepTimed(1, Waterfall(capture=10, prefill=20, decode=10, waited=5000), Usage()))
    view.show(StepTimed(2, Waterfall(capture=10), Usage()))
    view.show(Ended(Outcome.STUCK, "again", 2))
    text = out.getvalue()
    assert "a b\n" in text
    bars = [line for line in text.splitlines() if "█" in line]
    assert [line.count("█") for line in bars] == [40, 10]
    assert [line.count("·") for line in bars] == [0, 30]
    assert "stuck after 2 steps: again" in text


def test_plain_lines_say_what_was_rejected(model: ModelServer) -> None:
    out = io.StringIO()
    PlainView(out).show(OutputRejected(1, "gibberish", "no action", retrying=True))
    assert out.getvalue() == "no action: no action: 'gibberish' (asking again)\n"
