"""Lower tiers of the KV pool: host memory, and stores that outlive the process."""

from autoglm.cache.host.names import ChainNames
from autoglm.cache.host.slabs import SlabArena
from autoglm.cache.host.store import Entry, HostStore
from autoglm.cache.host.tier import HostCounters, HostTier
from autoglm.cache.host.transfer import Exported, NoTransfer, TensorTransfer, Transfer

__all__ = [
    "ChainNames",
    "Entry",
    "Exported",
    "HostCounters",
    "HostStore",
    "HostTier",
    "NoTransfer",
    "SlabArena",
    "TensorTransfer",
    "Transfer",
]
