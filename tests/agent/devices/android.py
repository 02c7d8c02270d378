"""An Android phone as its shell shows it: the commands that are used here, with state behind them."""

from __future__ import annotations

import base64
import shlex
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image

from autoglm.agent.devices.adb.keyboard import ADB_KEYBOARD

LAUNCHER = "com.android.launcher3"


@dataclass
class Android:
    """One phone. ``log`` holds every command line as words."""

    size: tuple[int, int] = (108, 240)
    override: tuple[int, int] | None = None
    packages: tuple[str, ...] = ("com.android.settings", "com.tencent.mm")
    keyboards: tuple[str, ...] = ("com.google.latin/.Ime", ADB_KEYBOARD)
    front: str = LAUNCHER
    keyboard: str = "com.google.latin/.Ime"
    enabled: set[str] = field(default_factory=lambda: {"com.google.latin/.Ime"})
    text: str = "old text"
    secure: bool = False
    banner: bytes = b""
    features: str = "shell_v2,cmd,stat_v2"
    broken: dict[str, str] = field(default_factory=dict)
    log: list[list[str]] = field(default_factory=list)

    def screen(self) -> bytes:
        out = BytesIO()
        Image.new("RGBA", self.size, (10, 20, 30, 255)).save(out, "PNG")
        return out.getvalue()

    def run(self, line: str) -> tuple[int, bytes, bytes]:
        """Status, stdout, stderr of a command line."""
        words = shlex.split(line)
        self.log.append(words)
        if words[0] in self.broken:
            return 1, b"", self.broken[words[0]].encode()
        command = getattr(self, f"_{words[0]}", None)
        if command is None:
            return 127, b"", f"/system/bin/sh: {words[0]}: inaccessible or not found\n".encode()
        result: tuple[int, bytes, bytes] = command(*words[1:])
        return result

    def _screencap(self, flag: str) -> tuple[int, bytes, bytes]:
        assert flag == "-p"
        if self.secure:
            return 1, b"", b"Failed to take screenshot. Status: -1\n"
        return 0, self.banner + self.screen(), b""

    def _wm(self, what: str) -> tuple[int, bytes, bytes]:
        assert what == "size"
        lines = f"Physical size: {self.size[0]}x{self.size[1]}\n"
        if self.override:
            lines += f"Override size: {self.override[0]}x{self.override[1]}\n"
        return 0, lines.encode(), b""

    def _dumpsys(self, what: str) -> tuple[int, bytes, bytes]:
        assert what == "window"
        return (
            0,
            (
                "WINDOW MANAGER LAST ANR (dumpsys window lastanr)\n  com.tencent.mm is mentioned here\n"
                f"  mCurrentFocus=Window{{1a2b u0 {self.front}/{self.front}.Main}}\n"
                f"  mFocusedApp=ActivityRecord{{3c4d u0 {self.front}/.Main t12}}\n"
            ).encode(),
            b"",
        )

    def _input(self, kind: str, *words: str) -> tuple[int, bytes, bytes]:
        if kind == "text":
            self.text += words[0].replace("%s", " ")
        elif kind == "keyevent":
            for key in words:
                if key == "67":
                    self.text = self.text[:-1]
                elif key == "66":
                    self.text += "\n"
                elif key == "KEYCODE_HOME":
                    self.front = LAUNCHER
        return 0, b"", b""

    def _ime(self, verb: str, *words: str) -> tuple[int, bytes, bytes]:
        if verb == "list":
            return 0, "\n".join(self.keyboards).encode() + b"\n", b""
        (name,) = words
        if verb == "enable":
            self.enabled.add(name)
        elif name not in self.enabled:
            return 1, b"", f"Unknown input method {name} cannot be selected\n".encode()
        else:
            self.keyboard = name
        return 0, b"", b""

    def _settings(self, *_: str) -> tuple[int, bytes, bytes]:
        return 0, f"{self.keyboard}\n".encode(), b""

    def _am(self, _: str, __: str, action: str, *words: str) -> tuple[int, bytes, bytes]:
        if self.keyboard == ADB_KEYBOARD:
            if action == "ADB_CLEAR_TEXT":
                self.text = ""
            elif action == "ADB_INPUT_B64":
                self.text += base64.b64decode(words[2], validate=True).decode()
        return 0, b"Broadcasting: Intent { }\nBroadcast completed: result=0\n", b""

    def _monkey(self, _: str, package: str, *__: str) -> tuple[int, bytes, bytes]:
        if package not in self.packages:
            return 252, b"", b"** No activities found to run, monkey aborted.\n"
        self.front = package
        return 0, b"Events injected: 1\n", b""
