"""One phone behind an ADB server: choosing it, and running commands on it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from autoglm.agent.devices.adb.connection import LimitedClient, our_errors
from autoglm.errors import (
    DeviceError,
    DeviceNotFoundError,
    DeviceOfflineError,
    DeviceUnauthorizedError,
    InvalidInputError,
)


@dataclass(frozen=True, slots=True)
class AdbConfig:
    """Where the phone is and how patient to be; pauses are the Open-AutoGLM client's.

    Attributes:
        serial: as ``adb devices`` lists it; ``None`` takes the only one.
        host, port: of the ADB server.
        timeout: seconds for one command, its output included.
        settle: pause after an action, so that the screen comes to rest.
        double_tap_pause: between the two taps.
        keyboard_pause: after each of the four steps of typing (switch, clear, type, switch back).
    """

    serial: str | None = None
    host: str = "127.0.0.1"
    port: int = 5037
    timeout: float = 10.0
    settle: float = 1.0
    double_tap_pause: float = 0.1
    keyboard_pause: float = 1.0


@dataclass(frozen=True, slots=True)
class ShellResult:
    """What a command wrote, both streams together, and its status."""

    status: int
    output: str


class AdbLink:
    """Commands to one phone, each over a connection of its own.

    Raises:
        DeviceServerError, DeviceNotFoundError, DeviceUnauthorizedError, DeviceOfflineError, DeviceTimeoutError:
            from every call.
        InvalidInputError: several phones are attached and none was chosen.
    """

    def __init__(self, config: AdbConfig) -> None:
        self._config = config
        self._client = LimitedClient(config.host, config.port, config.timeout)
        with self._errors():
            self.serial = self._choose()
            self._device: Any = self._client.device(self.serial)
            # Phones before Android 7 know the plain shell only; it gives no status of its own.
            self._v2 = "shell_v2" in self._device.get_features().split(",")

    def shell(self, *words: str) -> ShellResult:
        """Run a command; the words reach it as they are."""
        with self._errors():
            result = self._device.shell2(shlex.join(words), encoding="utf-8", v2=self._v2)
        return ShellResult(result.returncode, result.output)

    def must(self, *words: str) -> str:
        """Run a command that has to succeed; its output.

        Raises:
            DeviceError: it did not.
        """
        result = self.shell(*words)
        if result.status != 0:
            shown = result.output.strip()[:200]
            raise DeviceError(f"{words[0]} failed on the phone: {shown}", field="device", value=result.status)
        return result.output

    def raw(self, command: str) -> bytes:
        """The bytes a command writes, unchanged."""
        with self._errors(), self._device.open_transport() as connection:
            connection.send_command(f"exec:{command}")
            connection.check_okay()
            data: bytes = connection.read_all()
            return data

    def _errors(self) -> Any:
        return our_errors(self._config.host, self._config.port, self._config.timeout)

    def _choose(self) -> str:
        """The serial of the phone that is meant, once it is ready."""
        attached = {info.serial: info.state for info in self._client.list()}
        serial = self._config.serial
        if serial is None:
            if len(attached) > 1:
                raise InvalidInputError(
                    f"several phones are attached; name one: {', '.join(attached)}", field="serial", limit=1
                )
            serial = next(iter(attached), None)
        if serial is None or serial not in attached:
            raise DeviceNotFoundError(
                f"no phone {serial or ''} is attached".replace("  ", " "), field="serial", value=serial
            )
        state = attached[serial]
        if state == "unauthorized":
            raise DeviceUnauthorizedError(
                f"{serial} has not accepted this computer; unlock it and allow debugging", field="serial", value=serial
            )
        if state != "device":
            raise DeviceOfflineError(f"{serial} is {state}", field="serial", value=state)
        return serial
