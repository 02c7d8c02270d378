"""The request life cycle: admission, schedule, run, sample, emit."""

from autoglm.engine.config import EngineConfig
from autoglm.engine.engine import Engine

__all__ = ["Engine", "EngineConfig"]
