"""App names and Android packages.

``apps.json`` holds, for each package, the names people use; the first is the one reported as the current app. The table
began as Open-AutoGLM's (``phone_agent/config/apps.py``, Apache License 2.0), so its models know these names.
"""

from __future__ import annotations

import functools
import json
import re
from importlib import resources

HOME = "System Home"
"""What the client reports for a screen of no known app."""
_PACKAGE = re.compile(r"[A-Za-z]\w*(?:\.[A-Za-z]\w*)+", re.ASCII)


@functools.cache
def _table() -> dict[str, list[str]]:
    text = resources.files("autoglm.agent.devices.adb").joinpath("apps.json").read_text(encoding="utf-8")
    table: dict[str, list[str]] = json.loads(text)
    return table


@functools.cache
def _packages() -> dict[str, str]:
    return {_plain(name): package for package, names in _table().items() for name in names}


def package_of(app: str) -> str | None:
    """The package of an app's name, whatever its case and spacing; a package name stands for itself."""
    found = _packages().get(_plain(app))
    if found is None and _PACKAGE.fullmatch(app.strip()):
        return app.strip()
    return found


def app_of(package: str) -> str | None:
    """The name under which the app of a package is reported."""
    names = _table().get(package)
    return names[0] if names else None


def _plain(name: str) -> str:
    return re.sub(r"[\s\-_]", "", name).casefold()
