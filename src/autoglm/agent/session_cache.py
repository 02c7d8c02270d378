"""Telling the server to forget a session: for the loop, after a sensitive action."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

SensitiveActionHook = Callable[[str], object]
"""Called with the session's name once a login, a payment or a change of rights has been executed."""


@dataclass(frozen=True, slots=True)
class SessionForgotten:
    """What the server said.

    Attributes:
        entries: answers removed. everywhere: no server can give one of them any more. ``False`` with an ``error``: the
            server could not be asked, and nothing has been removed.
    """

    entries: int
    everywhere: bool
    error: str | None = None


class SessionCachePurge:
    """A :data:`SensitiveActionHook` that asks a server over HTTP. It never raises: the action has been executed.

    Args:
        base_url: of the API, ending in ``/v1``.
        timeout: seconds.
    """

    def __init__(self, base_url: str, api_key: str = "", timeout: float = 5.0) -> None:
        self._base = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = timeout

    def __call__(self, session: str) -> SessionForgotten:
        url = f"{self._base}/sessions/{quote(session, safe='')}/cache"
        request = urllib.request.Request(url, method="DELETE", headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                found = json.load(response)
                return SessionForgotten(int(found["entries"]), bool(found["everywhere"]))
        except (OSError, ValueError, KeyError) as error:
            return SessionForgotten(0, everywhere=False, error=str(error))
