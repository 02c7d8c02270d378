"""The console's part of the HTTP application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from autoglm.agent.threads import in_thread
from autoglm.errors import InvalidInputError
from autoglm.server.console.bodies import Answer, Gesture, NewPhone, NewTask, read
from autoglm.server.console.hits import HitHistory
from autoglm.server.console.pages import Pages, matches
from autoglm.server.console.phones import Phones
from autoglm.server.console.session import PhoneSession
from autoglm.server.console.viewer import EventReply
from autoglm.server.problems import ForbiddenError

API = "/console/api"
Figures = Callable[[], Awaitable[dict[str, Any]]]


def add_console(app: FastAPI, phones: Phones, figures: Figures, hits: HitHistory, write_timeout: float) -> None:
    """Add the page and its API.

    Args:
        figures: what the page shows about the engine. hits: of the caches, over time.
        write_timeout: seconds a viewer may leave a piece of its stream unread.
    """
    pages = Pages()
    router = APIRouter(prefix=API, include_in_schema=False, dependencies=[Depends(_same_site)])
    _phones(router, phones)
    _screens(router, phones, write_timeout)
    _tasks(router, phones)

    @router.get("/figures")
    async def engine_figures() -> dict[str, Any]:
        return await figures()

    @router.get("/hits")
    async def hit_rates() -> dict[str, Any]:
        return hits.fields()

    app.include_router(router)

    @app.get("/console/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return pages.reply("index.html", request)

    @app.get("/console/static/{name}", include_in_schema=False)
    async def static(name: str, request: Request) -> Response:
        return pages.reply(name, request)


async def _same_site(request: Request) -> None:
    """A page of another site may not operate phones through its visitor's browser.

    Raises:
        ForbiddenError: the request says that it comes from another origin.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise ForbiddenError("the console takes requests from its own page only", field="origin", value=origin[:80])


def _phones(router: APIRouter, phones: Phones) -> None:
    @router.get("/phones")
    async def every() -> dict[str, Any]:
        return {"phones": [session.fields() for session in phones.all()], "limit": phones.config.max_phones}

    @router.post("/phones")
    async def create(request: Request) -> JSONResponse:
        session = phones.create(await read(request, NewPhone))
        return JSONResponse(session.fields(), 201)

    @router.get("/phones/{key}")
    async def one(key: str) -> dict[str, Any]:
        return phones.get(key).fields()

    @router.delete("/phones/{key}")
    async def remove(key: str) -> Response:
        await phones.remove(phones.get(key), "the phone was removed")
        return Response(status_code=204)

    @router.get("/phones/{key}/suggestions")
    async def suggestions(key: str) -> dict[str, Any]:
        return {"suggestions": await phones.get(key).suggest()}


def _screens(router: APIRouter, phones: Phones, write_timeout: float) -> None:
    @router.get("/phones/{key}/screen")
    async def screen(key: str, request: Request) -> Response:
        picture = await in_thread(phones.get(key).screen.picture)
        headers = {"ETag": picture.etag, "Cache-Control": "no-cache"}
        if matches(request, picture.etag):
            return Response(status_code=304, headers=headers)
        return Response(picture.shot.png, media_type="image/png", headers=headers)

    @router.get("/phones/{key}/shots/{task}/{step}")
    async def shot(key: str, task: str, step: str) -> Response:
        png = phones.get(key).shot(_number("task", task), _number("step", step))
        return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=3600, immutable"})

    @router.post("/phones/{key}/input")
    async def act(key: str, request: Request) -> dict[str, Any]:
        session = phones.get(key)
        gesture = await read(request, Gesture)
        return {"changed": await session.input(gesture.action())}

    @router.get("/phones/{key}/events")
    async def events(key: str, after: str | None = None) -> Response:
        session = phones.get(key)
        place = None if after is None else _number("after", after)
        session.enter()
        return EventReply(session.journal, place, write_timeout, session.leave)


def _tasks(router: APIRouter, phones: Phones) -> None:
    def reply(session: PhoneSession, status: int = 200) -> JSONResponse:
        return JSONResponse(session.fields(), status)

    @router.post("/phones/{key}/task")
    async def start(key: str, request: Request) -> JSONResponse:
        session = phones.get(key)
        task = await read(request, NewTask)
        session.start(task.instruction, task.pause)
        return reply(session, 202)

    @router.delete("/phones/{key}/task")
    async def stop(key: str) -> JSONResponse:
        session = phones.get(key)
        await session.needs_run().stop()
        return reply(session)

    @router.post("/phones/{key}/answer")
    async def answer(key: str, request: Request) -> JSONResponse:
        session = phones.get(key)
        body = await read(request, Answer)
        session.needs_run().answer(body.question, body.allow)
        return reply(session)

    @router.post("/phones/{key}/take-over")
    async def take_over(key: str) -> JSONResponse:
        session = phones.get(key)
        session.needs_run().take_over()
        return reply(session)

    @router.post("/phones/{key}/resume")
    async def resume(key: str) -> JSONResponse:
        session = phones.get(key)
        session.needs_run().resume()
        return reply(session)


def _number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise InvalidInputError(f"{name} must be a whole number, not negative", field=name, limit=0, value=text[:40])
    return int(text)
