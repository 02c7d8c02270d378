"""The request life cycle: admission, schedule, run, sample, emit.

``Engine`` is imported when it is first asked for: a server's process knows the options only, and starts without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoglm.engine.config import EngineConfig

if TYPE_CHECKING:
    from autoglm.engine.engine import Engine

__all__ = ["Engine", "EngineConfig"]


def __getattr__(name: str) -> Any:
    if name != "Engine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from autoglm.engine.engine import Engine

    return Engine
