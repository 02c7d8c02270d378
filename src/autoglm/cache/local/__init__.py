"""The first level: a bounded map in this process, whose entries expire."""

from autoglm.cache.local.base import Clock, Listener, LocalCache, Weigher
from autoglm.cache.local.config import Implementation, LocalConfig, Policy
from autoglm.cache.local.stats import Cause, LocalStats
from autoglm.cache.local.weigh import payload_bytes

__all__ = [
    "Cause",
    "Clock",
    "Implementation",
    "Listener",
    "LocalCache",
    "LocalConfig",
    "LocalStats",
    "Policy",
    "Weigher",
    "payload_bytes",
]
