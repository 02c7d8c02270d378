"""Finished deterministic answers, reused where a request asks for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

import msgspec

from autoglm.cache.dialogue import DialogueCache, Purge, Ticket
from autoglm.cache.tiered import AsyncTieredCache
from autoglm.messages import Submit
from autoglm.server.caching.answer import Answer, answer_of, is_deterministic, question_of, whole_key
from autoglm.server.caching.recording import Recording, Replay
from autoglm.server.link import EngineLink
from autoglm.server.protocol import ChatRequest
from autoglm.server.stream import AnswerSource, ChoiceEvent, LinkedStream

log = logging.getLogger(__name__)
T = TypeVar("T")


class Responses:
    """Decides where a request's answer comes from: the engine, the cache, or a request that runs already.

    A request takes part if it is deterministic and names a ``session`` (answers live with it) or a ``cache_salt``
    (answers of equal requests). Belongs to one event loop; whatever blocks runs in the shared level's threads.
    """

    def __init__(
        self,
        link: EngineLink,
        answers: AsyncTieredCache[Answer],
        dialogue: DialogueCache[Answer],
        *,
        enabled: bool,
        model_tag: str,
        keep_seconds: float,
    ) -> None:
        self._link = link
        self._answers = answers
        self._dialogue = dialogue
        self._enabled = enabled
        self._model_tag = model_tag
        self._keep_seconds = keep_seconds
        self._live: dict[str, Recording] = {}
        self._stores: set[asyncio.Task[None]] = set()

    async def open(self, request: ChatRequest, submit: Submit, tenant: str) -> AnswerSource:
        """Where to read the answer.

        Raises:
            EngineUnavailableError, OverloadedError: see :meth:`EngineLink.submit`.
        """
        if request.session:
            name = _engine_session(tenant, request.session)
            submit = msgspec.structs.replace(submit, session=name, keep_seconds=self._keep_seconds)
        if not self._enabled or not is_deterministic(request):
            return self._direct(submit)
        if request.session:
            question = question_of(request, submit, tenant, self._model_tag)
            found = await self._off_loop(lambda: self._dialogue.lookup(question))
            if found.value is not None:
                # The engine does not see this request, but the session goes on.
                self._link.keep_session(submit.session, self._keep_seconds, submit.cache_salt)
                return Replay(submit.id, found.value.events, "hit")
            return self._follow(self._dialogue.flight_key(found.ticket), submit, self._keep_in(found.ticket))
        if request.cache_salt:
            key = whole_key(request, submit, tenant, self._model_tag)
            answer = await self._answers.get(key)
            if answer is not None:
                return Replay(submit.id, answer.events, "hit")
            return self._follow(key, submit, self._keep_under(key))
        return self._direct(submit)

    async def purge(self, tenant: str, session: str) -> Purge:
        """Forget a session's answers, everywhere, those under way included."""
        self._link.keep_session(_engine_session(tenant, session), 0.0)
        return await self._off_loop(lambda: self._dialogue.purge(tenant, session))

    async def close(self) -> None:
        """Let stores that have begun end."""
        await asyncio.gather(*self._stores, return_exceptions=True)

    def _direct(self, submit: Submit) -> AnswerSource:
        return LinkedStream(self._link.submit(submit), self._link)

    def _follow(self, key: str, submit: Submit, keep: Callable[[Answer], bool]) -> Replay:
        """Join the recording of ``key``, or begin it. No waiting in here, so nobody can come between.

        A recording can be joined until its answer is stored: who looked before that finds it here.
        """
        recording = self._live.get(key)
        if recording is not None and recording.joinable:
            return recording.reader(submit.id, "joined")

        def forget() -> None:
            if self._live.get(key) is made:
                del self._live[key]

        def ended(events: list[ChoiceEvent] | None) -> None:
            answer = None if events is None else answer_of(events, submit.n)
            if answer is None:
                forget()
            else:
                self._store(lambda: keep(answer), forget)

        made = self._live[key] = Recording(self._link.submit(submit), self._link, ended)
        return made.reader(submit.id, "miss")

    def _keep_in(self, ticket: Ticket) -> Callable[[Answer], bool]:
        return lambda answer: self._dialogue.keep(ticket, answer)

    def _keep_under(self, key: str) -> Callable[[Answer], bool]:
        return lambda answer: self._answers.cache.put(key, answer)

    def _store(self, store: Callable[[], bool], then: Callable[[], None]) -> None:
        async def run() -> None:
            try:
                await self._off_loop(store)
            except Exception:
                log.exception("an answer could not be kept")
            finally:
                then()

        task = asyncio.get_running_loop().create_task(run())
        self._stores.add(task)
        task.add_done_callback(self._stores.discard)

    async def _off_loop(self, call: Callable[[], T]) -> T:
        if self._dialogue.shared is None:
            return call()  # memory only: quicker than a change of thread
        return await asyncio.get_running_loop().run_in_executor(self._dialogue.shared.executor, call)


def _engine_session(tenant: str, session: str) -> str:
    """The engine's name of a session: two keys may call theirs alike."""
    return f"{tenant[:16]}:{session}"
