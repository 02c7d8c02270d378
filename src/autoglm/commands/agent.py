"""``autoglm agent``: one task on a phone, watched in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from autoglm import env
from autoglm.agent.config import AgentConfig
from autoglm.agent.devices.base import Device
from autoglm.agent.dialogue import Language, system_prompt
from autoglm.agent.events import Outcome
from autoglm.agent.loop import Agent, follow
from autoglm.agent.model_client import ModelClient, ModelConfig
from autoglm.agent.session_cache import SessionCachePurge
from autoglm.agent.threads import in_thread
from autoglm.commands.agent_view import make_view
from autoglm.commands.embedded import served
from autoglm.commands.person import Person
from autoglm.errors import DeviceError, InvalidInputError
from autoglm.model.resolve import PACKAGED

STATUS = {
    Outcome.FINISHED: 0,
    Outcome.DENIED: 3,
    Outcome.UNANSWERED: 4,
    Outcome.STEP_LIMIT: 5,
    Outcome.STUCK: 6,
    Outcome.UNPARSEABLE: 7,
    Outcome.MODEL_ERROR: 8,
    Outcome.DEVICE_ERROR: 9,
}
_TERMINATED = 143


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of the subcommand."""
    d, m = AgentConfig(), ModelConfig("")
    statuses = ", ".join(f"{status} {outcome}" for outcome, status in STATUS.items())
    parser = commands.add_parser("agent", help="do a task on a phone", epilog=f"exit status: {statuses}, 2 wrong use")
    parser.add_argument("instruction", help="the task, in Chinese or English")
    parser.add_argument(
        "--base-url",
        help="of an OpenAI-compatible server, up to and with /v1; without it the embedded model is served",
    )
    parser.add_argument("--model", default=m.model, help=f"as the server calls it (default: {m.model})")
    parser.add_argument("--api-key-file", type=Path, help=f"file with the server's key (or set {env.API_KEY})")
    parser.add_argument(
        "--session", default="", help="name under which the server may remember this dialogue's answers"
    )
    parser.add_argument("--device", default="simulated", help="simulated, adb, or adb:SERIAL (default: simulated)")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated phone (default: 0)")
    parser.add_argument("--language", choices=("zh", "en"), help="of the simulated phone (default: by the seed)")
    parser.add_argument("--theme", choices=("light", "dark"), help="of the simulated phone (default: by the seed)")
    parser.add_argument(
        "--system-prompt",
        choices=("auto", "zh", "en", "none"),
        default="auto",
        help="the Open-AutoGLM client's; auto: in the task's language (default: auto)",
    )
    parser.add_argument("--max-steps", type=int, default=d.max_steps, help=f"(default: {d.max_steps})")
    parser.add_argument("--yes", action="store_true", help="confirm sensitive taps without asking")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do the task; the status says how it ended."""
    config = AgentConfig(max_steps=options.max_steps, system_prompt=_system_prompt(options))
    if options.base_url is not None:
        key = _api_key(options.api_key_file)
        return _finish(options, config, ModelConfig(options.base_url, options.model, key, session=options.session))
    if options.device.partition(":")[0] != "simulated":
        raise InvalidInputError(
            "--device needs --base-url unless it is simulated: the embedded model knows no other phone",
            field="base_url",
        )
    with served(PACKAGED, ["--no-console"]) as url:
        return _finish(options, config, ModelConfig(url, PACKAGED))


def _finish(options: argparse.Namespace, config: AgentConfig, model: ModelConfig) -> int:
    try:
        return asyncio.run(_run(options, config, model))
    except asyncio.CancelledError:
        return _TERMINATED


async def _run(options: argparse.Namespace, config: AgentConfig, model: ModelConfig) -> int:
    view = make_view(sys.stdout)
    person = Person(view.ask, sys.stdin, always_yes=options.yes)
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    client = ModelClient(model)
    try:
        device = await in_thread(open_device, options)
    except BaseException as error:
        await client.close()
        if not isinstance(error, DeviceError):
            raise
        print(f"autoglm: {error.message}", file=sys.stderr)
        return STATUS[Outcome.DEVICE_ERROR]
    agent = Agent(device, client, config, person.confirm, person.take_over, _forgetting(model))
    try:
        view.begin(options.instruction, device.name)
        ended = await follow(agent, options.instruction, view.show)
    finally:
        await agent.close()
    return STATUS[ended.outcome]


def _forgetting(model: ModelConfig) -> Callable[[], object] | None:
    """What makes the server forget the session after a sensitive action."""
    if not model.session:
        return None
    return partial(SessionCachePurge(model.base_url, model.api_key), model.session)


def open_device(options: argparse.Namespace) -> Device:
    """The device of ``--device``; what is not needed is not imported."""
    kind, _, serial = options.device.partition(":")
    if kind == "simulated" and not serial:
        from autoglm.agent.devices.simulated import PhoneSpec, SimulatedPhone

        return SimulatedPhone(PhoneSpec.random(options.seed, language=options.language, theme=options.theme))
    if kind == "adb":
        try:
            from autoglm.agent.devices.adb import AdbConfig, AdbDevice
        except ImportError as error:
            raise InvalidInputError(
                "--device adb needs a package that is not installed: pip install 'autoglm[adb]'", field="device"
            ) from error
        host, port = env.adb_server()
        return AdbDevice(AdbConfig(serial or None, host, port))
    raise InvalidInputError("--device must be simulated, adb or adb:SERIAL", field="device", value=options.device)


def _system_prompt(options: argparse.Namespace) -> str:
    if options.system_prompt == "none":
        return ""
    language: Language = "zh" if re.search(r"[\u4e00-\u9fff]", options.instruction) else "en"
    if options.system_prompt != "auto":
        language = options.system_prompt
    return system_prompt(language, datetime.datetime.now().astimezone().date())


def _api_key(file: Path | None) -> str:
    if file is None:
        return env.api_key() or "EMPTY"
    try:
        key = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidInputError(f"--api-key-file: {error.strerror}: {file}", field="api_key_file") from error
    if not key.isascii() or not key.isprintable() or not key:
        raise InvalidInputError(f"--api-key-file: {file} holds no key", field="api_key_file")
    return key
