"""A real phone, or an emulator, through an ADB server. Needs ``adbutils`` (the ``adb`` extra)."""

from autoglm.agent.devices.adb.device import AdbDevice
from autoglm.agent.devices.adb.link import AdbConfig

__all__ = ["AdbConfig", "AdbDevice"]
