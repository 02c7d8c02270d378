"""Typing text: through ADB Keyboard where it is installed, else by ``input text``."""

from __future__ import annotations

import base64
import re
import time

from autoglm.agent.devices.adb.link import AdbLink
from autoglm.errors import InvalidInputError

ADB_KEYBOARD = "com.android.adbkeyboard/.AdbIME"
_MOVE_END, _DELETE, _ENTER = "123", "67", "66"
_CLEARED = 200
"""Characters that are deleted before typing without ADB Keyboard: a field's length is not known."""


def type_text(link: AdbLink, text: str, pause: float) -> None:
    """Replace the focused field's text.

    Raises:
        InvalidInputError: ADB Keyboard is missing, and ``input text`` cannot type this.
        DeviceError: a step failed; the person's own keyboard is back in any case.
    """
    if ADB_KEYBOARD in link.must("ime", "list", "-a", "-s").split():
        _by_keyboard(link, text, pause)
    else:
        _by_input(link, text)


def _by_keyboard(link: AdbLink, text: str, pause: float) -> None:
    before = link.must("settings", "get", "secure", "default_input_method").strip()
    if before != ADB_KEYBOARD:
        link.must("ime", "enable", ADB_KEYBOARD)
        link.must("ime", "set", ADB_KEYBOARD)
        time.sleep(pause)
    try:
        link.must("am", "broadcast", "-a", "ADB_CLEAR_TEXT")
        time.sleep(pause)
        # Base64, so that no shell between here and there changes a character.
        link.must("am", "broadcast", "-a", "ADB_INPUT_B64", "--es", "msg", base64.b64encode(text.encode()).decode())
        time.sleep(pause)
    finally:
        if before not in ("", "null", ADB_KEYBOARD):
            link.must("ime", "set", before)
            time.sleep(pause)


def _by_input(link: AdbLink, text: str) -> None:
    if re.search(r"[^ -~\n]", text):
        raise InvalidInputError(
            "typing this text needs ADB Keyboard on the phone; without it only plain ASCII can be typed",
            field="text",
            value=text[:40],
        )
    link.must("input", "keyevent", _MOVE_END, *[_DELETE] * _CLEARED)
    for number, line in enumerate(text.split("\n")):
        if number:
            link.must("input", "keyevent", _ENTER)
        # "%s" means a space to `input`, so a real one is cut in two.
        for part in re.split(r"(?<=%)(?=s)", line):
            if part:
                link.must("input", "text", part.replace(" ", "%s"))
