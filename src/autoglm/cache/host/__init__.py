"""Lower tiers of the KV pool: host memory, and stores that outlive the process.

What moves tensors is in ``autoglm.cache.host.transfer``: the rest is of use to processes that do without torch.
"""

from autoglm.cache.host.disk import DiskStore
from autoglm.cache.host.names import ChainNames
from autoglm.cache.host.redis_store import RedisStore
from autoglm.cache.host.shared import Fetch, SharedStores
from autoglm.cache.host.slabs import SlabArena
from autoglm.cache.host.store import Entry, HostStore
from autoglm.cache.host.stores import BlobStore, StoreCounters
from autoglm.cache.host.tier import HostCounters, HostTier

__all__ = [
    "BlobStore",
    "ChainNames",
    "DiskStore",
    "Entry",
    "Fetch",
    "HostCounters",
    "HostStore",
    "HostTier",
    "RedisStore",
    "SharedStores",
    "SlabArena",
    "StoreCounters",
]
