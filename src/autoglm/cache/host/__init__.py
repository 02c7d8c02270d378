"""Lower tiers of the KV pool: host memory, and stores that outlive the process."""

from autoglm.cache.host.disk import DiskStore
from autoglm.cache.host.names import ChainNames
from autoglm.cache.host.redis_store import RedisStore
from autoglm.cache.host.shared import Fetch, SharedStores
from autoglm.cache.host.slabs import SlabArena
from autoglm.cache.host.store import Entry, HostStore
from autoglm.cache.host.stores import BlobStore, StoreCounters
from autoglm.cache.host.tier import HostCounters, HostTier
from autoglm.cache.host.transfer import Exported, NoTransfer, TensorTransfer, Transfer

__all__ = [
    "BlobStore",
    "ChainNames",
    "DiskStore",
    "Entry",
    "Exported",
    "Fetch",
    "HostCounters",
    "HostStore",
    "HostTier",
    "NoTransfer",
    "RedisStore",
    "SharedStores",
    "SlabArena",
    "StoreCounters",
    "TensorTransfer",
    "Transfer",
]
