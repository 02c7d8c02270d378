"""KV blocks and visual features from and to the stores below host memory, on behalf of sequences.

A new sequence whose blocks may be there waits for them in the queue, never longer than computing would take; others
go ahead of it. What a finished sequence computed is written, if it was not lately.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import torch

from autoglm import env
from autoglm.cache import KVCache, Node, VisualCache
from autoglm.cache.host import BlobStore, DiskStore, Fetch, HostTier, RedisStore, SharedStores
from autoglm.engine.config import EngineConfig
from autoglm.engine.features import pack, unpack
from autoglm.engine.sequence import Sequence
from autoglm.errors import InvalidInputError
from autoglm.model.context import ImageFeatures
from autoglm.prompt import SharedPrompts

FeatureKey = tuple[str, bytes]


class Sharing:
    """Belongs to the engine's loop; only :class:`SharedStores` has a thread.

    Args:
        compute_seconds: of a block on this model, measured; ``None``: not known, waits are bounded by options alone.
    """

    def __init__(
        self,
        config: EngineConfig,
        kv: KVCache,
        host: HostTier,
        visual: VisualCache[ImageFeatures],
        compute_seconds: float | None,
        device: torch.device,
    ) -> None:
        self._kv = kv
        self._host = host
        self._visual = visual
        self._device = device
        self._compute = compute_seconds
        self._wait = config.kv_fetch_ms / 1e3
        self._features = config.share_features and config.visual_cache_bytes > 0
        self.shared = SharedStores(open_stores(config), renew=config.kv_redis_ttl / 2)
        if self._features:
            visual.on_encoded = self._encoded

    def start(self, sequence: Sequence) -> None:
        """Ask for what a new sequence needs and nobody here has."""
        size = self._kv.block_size
        here, wanted = self._kv.missing(sequence.salt, sequence.identities, sequence.prompt_len - 1)
        if not self.shared.worth_asking(self._wait if self._compute is None else self._compute):
            return
        features = self._wanted_features(sequence, here, len(wanted)) if self._features else {}
        if len(wanted) < self._host.min_blocks:
            wanted = []
        if not wanted and not features:
            return
        seconds = self._wait
        if self._compute is not None and not features:
            seconds = min(seconds, self._compute * len(wanted))
        fetch = Fetch(
            chain=[name for name, _ in wanted],
            others=[(-(-end // size) - here, self._visual.name(key)) for key, end in features.items()],
            deadline=time.monotonic() + seconds,
        )
        if self.shared.fetch(fetch):
            sequence.fetch = fetch
            sequence.fetch_parents = dict(wanted)
            sequence.fetch_features = {self._visual.name(key): key for key in features}

    def arrived(self, sequence: Sequence) -> bool:
        """Take over what came; whether the sequence need not wait any longer."""
        fetch = sequence.fetch
        if fetch is None:
            return True
        over = fetch.done or time.monotonic() > fetch.deadline
        while fetch.arrived:
            name, payload = fetch.arrived.popleft()
            key = sequence.fetch_features.get(name)
            if key is not None:
                features = unpack(payload, self._device)
                if features is not None:
                    self._visual.offer(key, features)
                continue
            entry = self._host.adopt(name, sequence.fetch_parents[name], payload)
            if entry is not None and sequence.shield is not None:
                self._kv.shields.add(sequence.shield, entry)
        if over:
            self.drop(sequence)
        return over

    def drop(self, sequence: Sequence) -> None:
        """The sequence waits no longer, or is gone."""
        if sequence.fetch is not None:
            sequence.fetch.cancelled = True
            sequence.fetch = None
            sequence.fetch_parents, sequence.fetch_features = {}, {}

    def wait(self, seconds: float) -> None:
        """Until something arrives."""
        self.shared.arrival.wait(seconds)
        self.shared.arrival.clear()

    def finished(self, leaf: Node | None) -> None:
        """Write the blocks of a chain that are not in the stores yet."""
        if leaf is None:
            return
        names, blocks = self._kv.named_chain(leaf, self.shared.fresh)
        if names:
            exported = self._host.export(blocks)
            self.shared.write(names, exported.payloads, exported.nbytes)

    def close(self) -> None:
        """Write what waits, for a while; let go of the stores."""
        self.shared.close()

    def _encoded(self, key: FeatureKey, features: ImageFeatures) -> None:
        name = self._visual.name(key)
        if not self.shared.fresh(name):
            self.shared.write([name], partial(_payload, features), features.nbytes)

    def _wanted_features(self, sequence: Sequence, here: int, wanted: int) -> dict[FeatureKey, int]:
        """Images to encode unless more blocks are found, with the token from which on they are not needed."""
        size, total = self._kv.block_size, len(sequence.identities)
        needed: dict[FeatureKey, int] = {}
        for index in sequence.needed_images(here * size, total):
            placed = sequence.images[index]
            key = (sequence.salt, placed.image.digest)
            if key not in self._visual:
                end = (here + wanted + 1) * size if sequence.sights else placed.start + placed.image.num_tokens
                needed[key] = max(end, needed.get(key, 0))
        return needed


def shared_prompts(config: EngineConfig) -> SharedPrompts | None:
    """What replicas share of prompt building, if the options or the environment name a Redis.

    Raises:
        InvalidInputError: the address is none, or the client is not installed.
    """
    url = (config.prompt_redis_url or env.redis_url()) if config.share_prompts else None
    if not url:
        return None
    return SharedPrompts(url, password=env.redis_password(), namespace=config.prompt_namespace)


def open_stores(config: EngineConfig) -> list[BlobStore]:
    """Disk, then Redis, as the options say.

    Raises:
        InvalidInputError: the folder cannot be used, or Redis cannot be spoken to at all.
    """
    stores: list[BlobStore] = []
    if config.kv_disk_directory:
        try:
            stores.append(DiskStore(Path(config.kv_disk_directory), config.kv_disk_bytes))
        except OSError as error:
            raise InvalidInputError(
                f"kv_disk_directory {config.kv_disk_directory}: {error.strerror}", field="kv_disk_directory"
            ) from error
    if config.kv_redis_url:
        stores.append(RedisStore(config.kv_redis_url, password=env.redis_password(), ttl=config.kv_redis_ttl))
    return stores


def _payload(features: ImageFeatures) -> list[memoryview]:
    return [memoryview(pack(features))]
