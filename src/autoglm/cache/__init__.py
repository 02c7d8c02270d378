"""What is remembered: KV blocks and prefixes, visual features. Each cache has one owner, the engine's loop."""

from autoglm.cache.blocks import Worth
from autoglm.cache.branches import Branches
from autoglm.cache.hints import SessionHints
from autoglm.cache.identity import ImageOrdinals, sequence_identities, sighted_identity
from autoglm.cache.kv import BlockTable, KVCache, PartialCopy
from autoglm.cache.prefix import Node
from autoglm.cache.shields import Shield
from autoglm.cache.stats import Counters
from autoglm.cache.visual import VisualCache

__all__ = [
    "BlockTable",
    "Branches",
    "Counters",
    "ImageOrdinals",
    "KVCache",
    "Node",
    "PartialCopy",
    "SessionHints",
    "Shield",
    "VisualCache",
    "Worth",
    "sequence_identities",
    "sighted_identity",
]
