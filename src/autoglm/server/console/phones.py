"""All phones of the console."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import random
import secrets
from dataclasses import replace
from functools import partial

from autoglm.agent.config import AgentConfig
from autoglm.agent.devices.simulated import PhoneSpec
from autoglm.agent.dialogue import system_prompt
from autoglm.agent.loop import Agent
from autoglm.agent.model_client import ModelClient, ModelConfig
from autoglm.agent.session_cache import SessionCachePurge
from autoglm.errors import EngineUnavailableError, NotFoundError, OverloadedError
from autoglm.server.console.bodies import NewPhone
from autoglm.server.console.config import ConsoleConfig
from autoglm.server.console.driver import TaskRun
from autoglm.server.console.session import PhoneSession

log = logging.getLogger(__name__)
_SEEDS = 2**31


class Phones:
    """Creates, finds and puts away phones. Belongs to one event loop; :meth:`close` ends everything.

    Args:
        model: the API that decides, for every phone.
    """

    def __init__(self, config: ConsoleConfig, model: ModelConfig) -> None:
        self.config = config
        self._model = model
        self._phones: dict[str, PhoneSession] = {}
        self._closed = False
        self._sweeper: asyncio.Task[None] | None = None

    def create(self, wanted: NewPhone) -> PhoneSession:
        """A new phone. Raises :class:`OverloadedError` if there are too many."""
        self._check_room()
        seed = random.randrange(_SEEDS) if wanted.seed is None else wanted.seed
        spec = PhoneSpec.random(seed, wanted.language, wanted.theme)
        session = PhoneSession(secrets.token_hex(4), spec, self.config, self._agent)
        self._phones[session.id] = session
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep(), name="console-sweeper")
        return session

    def get(self, key: str) -> PhoneSession:
        """A phone by its id, which counts as using it. Raises :class:`NotFoundError`."""
        session = self._phones.get(key)
        if session is None:
            raise NotFoundError(f"there is no phone {key[:40]!r}", field="phone", value=key[:40])
        session.touch()
        return session

    async def remove(self, session: PhoneSession, reason: str) -> None:
        """Put a phone away, with its task and its viewers' streams."""
        if self._phones.pop(session.id, None) is not None:
            await session.close(reason)

    async def close(self) -> None:
        """End every task and stream. Nothing is created any more."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        await asyncio.gather(*(self.remove(s, "the server is shutting down") for s in self.all()))

    def all(self) -> list[PhoneSession]:
        """Every phone, oldest first."""
        return list(self._phones.values())

    def _check_room(self) -> None:
        if self._closed:
            raise EngineUnavailableError("the server is shutting down")
        if len(self._phones) >= self.config.max_phones:
            raise OverloadedError(
                f"there are {len(self._phones)} phones, which is the limit; remove one first",
                field="phones",
                limit=self.config.max_phones,
                value=len(self._phones),
            )

    def _agent(self, phone: PhoneSession, run: TaskRun) -> Agent:
        prompt = ""
        if self.config.system_prompt:
            prompt = system_prompt("zh" if phone.spec.language == "zh" else "en", datetime.date.today())
        config = AgentConfig(max_steps=self.config.max_steps, system_prompt=prompt)
        if self.config.api_base is not None:  # another server's API may know no sessions
            return Agent(phone.screen, ModelClient(self._model), config, run.confirm, run.confirm)
        model = replace(self._model, session=f"console-{phone.id}")
        purge = SessionCachePurge(model.base_url, model.api_key)
        client = ModelClient(model)
        return Agent(phone.screen, client, config, run.confirm, run.confirm, partial(_forget, purge, model.session))

    async def _sweep(self) -> None:
        """Stop what nobody watches, put away what nobody uses."""
        config = self.config
        every = min(config.phone_idle, config.unwatched, 10.0) / 4
        while True:
            await asyncio.sleep(every)
            for session in self.all():
                if session.run is not None and session.unwatched_seconds() > config.unwatched:
                    log.info("phone %s: nobody watches, its task is stopped", session.id)
                    await session.run.stop()
                if session.idle_seconds() > config.phone_idle:
                    log.info("phone %s: not used, put away", session.id)
                    await self.remove(session, "the phone was not used for a while")


def _forget(purge: SessionCachePurge, session: str) -> None:
    """What the server remembers of a phone is void from now on."""
    done = purge(session)
    if done.error is not None:
        log.warning("the cache of session %s could not be purged: %s", session, done.error)
