"""All caches of the server process: made, watched, warmed and closed together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from autoglm.cache.dialogue import DialogueCache, DialogueConfig
from autoglm.cache.tiered import (
    AsyncTieredCache,
    SharedConfig,
    Status,
    StructCodec,
    TieredCache,
    TieredConfig,
    open_shared,
    shared_stats,
)
from autoglm.cache.tiered.warm import WarmUp
from autoglm.server.caching.answer import ANSWERS, Answer
from autoglm.server.caching.config import CachingConfig
from autoglm.server.caching.prompts import compute_prompts
from autoglm.server.caching.responses import Responses
from autoglm.server.link import EngineLink

log = logging.getLogger(__name__)
PROMPT_CACHES = ("images", "texts")
"""What the engine's process shares of prompts, by its name in the shared store: see ``autoglm.prompt.shared``."""
Cards = list[dict[str, str | int]]


class ServerCaches:
    """Owner: the server's run. Belongs to one event loop.

    Attributes:
        warming: (done, total) while the warm-up runs, else ``None``. warm: it has ended, or there is none.
    """

    def __init__(self, config: CachingConfig, link: EngineLink) -> None:
        self.config = config
        self._link = link
        url = config.redis_url
        self.shared = None
        if url is not None:
            self.shared = open_shared(SharedConfig(url=url, password=config.redis_password, namespace=config.namespace))
        limits: dict[str, Any] = {"max_entries": config.max_entries, "max_bytes": config.max_bytes}
        answers: TieredCache[Answer] = TieredCache(
            TieredConfig(name="responses", ttl=config.response_ttl, immutable=True, refresh_at=1.0, **limits),
            ANSWERS,
            shared=self.shared,
        )
        models: TieredCache[Cards] = TieredCache(
            TieredConfig(name="models", max_entries=1000 if config.models else 0),
            StructCodec(Cards, "models"),
            shared=self.shared if config.models else None,
        )
        self.models = AsyncTieredCache(models)
        self._answers = AsyncTieredCache(answers)
        self.dialogue: DialogueCache[Answer] = DialogueCache(
            DialogueConfig(ttl=config.session_ttl, max_bytes=config.max_bytes), ANSWERS, shared=self.shared
        )
        self.responses = Responses(
            link,
            self._answers,
            self.dialogue,
            enabled=config.responses,
            model_tag=config.model_tag,
            keep_seconds=config.session_ttl,
        )
        self._tiered: dict[str, AsyncTieredCache[Any]] = {"responses": self._answers, "models": self.models}
        self._file = None
        if config.warm_up is not None:
            self._file = WarmUp(config.warm_up, {name: cache.cache for name, cache in self._tiered.items()})
        self.warming: tuple[int, int] | None = None
        self.warm = self._file is None and not config.warm_up_prompts
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Whether nobody need wait for the warm-up."""
        return self.warm or not self.config.warm_up_wait

    def start(self) -> None:
        """Begin to warm up, and to save regularly."""
        loop = asyncio.get_running_loop()
        if not self.warm:
            self._tasks.append(loop.create_task(self._warm_at_start(), name="cache-warm-up"))
        if self._file is not None:
            self._tasks.append(loop.create_task(self._save_regularly(), name="cache-save"))

    async def warm_up(self) -> int:
        """Take what the file holds, and have the engine compute the configured prompts; how many entries came."""
        count = 0
        if self._file is not None:
            count = await asyncio.to_thread(self._file.load, self._progress)
        await compute_prompts(self._link, self.config.warm_up_prompts, self._progress)
        self.warming, self.warm = None, True
        return count

    async def purge(self, name: str | None = None) -> bool:
        """Remove everything of one cache, or of all, everywhere; whether the shared level has been told.

        Raises:
            KeyError: there is no such cache.
        """
        names = ["dialogue", "prompts", *self._tiered] if name is None else [name]
        done = True
        for each in names:
            if each == "dialogue":
                done &= await asyncio.to_thread(self.dialogue.clear)
            elif each == "prompts":
                done &= await self._purge_prompts()
            else:
                done &= await self._tiered[each].clear()
        await self.save()
        return done

    async def _purge_prompts(self) -> bool:
        """Images and texts that prompts were made of: in the shared store, and in this server's engine."""
        done = True
        if self.shared is not None:
            found = [await asyncio.to_thread(self.shared.remove_all, f"{name}:") for name in PROMPT_CACHES]
            done = all(status is Status.DONE for status in found)
        self._link.forget_prompts()
        return done

    async def save(self) -> None:
        """Write the warm-up file, if there is to be one."""
        if self._file is not None:
            try:
                await asyncio.to_thread(self._file.save)
            except OSError as error:
                log.warning("the warm-up file cannot be written: %s", error)

    def figures(self) -> dict[str, Any]:
        """Statistics of all levels, as plain values."""
        return {
            "shared": None if self.shared is None else shared_stats(self.shared),
            "tiered": [cache.cache.stats() for cache in self._tiered.values()],
            "dialogue": self.dialogue.figures(),
        }

    async def close(self) -> None:
        """Save, and let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.responses.close()
        await self.save()
        for cache in self._tiered.values():
            await cache.close()
        if self.shared is not None:
            await asyncio.to_thread(self.shared.close)

    def _progress(self, done: int, total: int) -> None:
        self.warming = done, total

    async def _warm_at_start(self) -> None:
        try:
            count = await self.warm_up()
            log.info("caches warmed up: %d entries, %d prompts", count, len(self.config.warm_up_prompts))
        except Exception:
            log.exception("the warm-up failed; going on cold")
        finally:
            self.warming, self.warm = None, True

    async def _save_regularly(self) -> None:
        while True:
            await asyncio.sleep(self.config.save_interval)
            with contextlib.suppress(OSError):
                await self.save()
