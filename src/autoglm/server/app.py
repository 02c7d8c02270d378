"""The application: routes, guards and error mapping around one engine link."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from autoglm import __version__
from autoglm.errors import AutoGLMError, EngineUnavailableError, InvalidInputError, NotFoundError
from autoglm.server.caching.answer import tenant_of
from autoglm.server.caching.caches import Cards, ServerCaches
from autoglm.server.caching.routes import add_cache_routes
from autoglm.server.chat import ChatReply
from autoglm.server.config import ServerConfig
from autoglm.server.console.figures import figures_of
from autoglm.server.console.hits import HitHistory
from autoglm.server.console.phones import Phones
from autoglm.server.console.routes import add_console
from autoglm.server.guards import BodyGuard, HostGuard, KeyGuard
from autoglm.server.images import ImageSource
from autoglm.server.intake import parse, submit_of
from autoglm.server.link import EngineLink, LinkState
from autoglm.server.metrics import RequestTimer, ServerMetrics
from autoglm.server.openapi import CHAT_BODY, ERROR_RESPONSES, describe
from autoglm.server.problems import MethodNotAllowedError, response_of

log = logging.getLogger(__name__)


def create_app(
    config: ServerConfig,
    link: EngineLink,
    caches: ServerCaches,
    phones: Phones | None = None,
    hits: HitHistory | None = None,
) -> FastAPI:
    """The ASGI application. ``link`` and ``caches`` are started and closed by the caller, and ``phones`` closed by it.

    Args:
        phones: of the console; ``None``: no console.
        hits: what the console shows of the caches; the caller adds to it. ``None``: it stays empty.
    """
    app = FastAPI(title="autoglm", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(BodyGuard, max_bytes=config.max_body_bytes, timeout=config.body_timeout)
    app.add_middleware(KeyGuard, keys=config.api_keys)
    app.add_middleware(HostGuard, bound=config.host, allowed=config.allowed_hosts)
    metrics = ServerMetrics()
    _errors(app)
    _chat(app, config, caches, metrics)
    _models(app, config, caches, int(time.time()))
    _health(app, link, caches, metrics)
    add_cache_routes(app, config, caches, link)
    _index(app, phones is not None)
    if phones is not None:
        figures = partial(figures_of, link, config.served_names[0])
        add_console(app, phones, figures, hits or HitHistory(), config.write_timeout)
    describe(app)
    return app


def _errors(app: FastAPI) -> None:
    @app.exception_handler(AutoGLMError)
    async def ours(_request: Request, error: AutoGLMError) -> Response:
        return response_of(error)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            response = response_of(MethodNotAllowedError(f"{request.url.path} has no {request.method}"))
            response.headers.update(error.headers or {})
            return response
        return response_of(NotFoundError(f"there is nothing at {request.url.path[:80]}", value=request.url.path[:80]))

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = str(first["loc"][-1])
        return response_of(InvalidInputError(f"{field}: {first['msg']}", field=field, value=str(first["input"])[:80]))

    @app.exception_handler(Exception)
    async def bug(_request: Request, error: Exception) -> Response:
        log.exception("unexpected error", exc_info=error)
        return response_of(AutoGLMError("internal error; the server's log has the details"))


def _chat(app: FastAPI, config: ServerConfig, caches: ServerCaches, metrics: ServerMetrics) -> None:
    images = ImageSource(config)

    @app.post("/v1/chat/completions", responses=ERROR_RESPONSES, openapi_extra=CHAT_BODY)
    async def chat_completions(request: Request) -> Response:
        timer = RequestTimer(metrics)
        try:
            parsed = parse(await request.body(), config.served_names)
            tenant = tenant_of(request.headers, config.api_keys)
            stream = await caches.responses.open(parsed, await submit_of(parsed, images), tenant)
        except AutoGLMError as error:
            response = response_of(error)
            timer.end(str(response.status_code))
            return response
        except BaseException:
            timer.end("500")
            raise
        return ChatReply(parsed, stream, config, timer)


def _models(app: FastAPI, config: ServerConfig, caches: ServerCaches, created: int) -> None:
    def card(name: str) -> dict[str, str | int]:
        return {"id": name, "object": "model", "created": created, "owned_by": "autoglm"}

    async def load(_key: str) -> Cards:
        return [card(name) for name in config.served_names]

    async def cards() -> Cards:
        # Servers that share a cache tell the same list, with the same times, whichever a client asks.
        return await caches.models.get_or_load("\n".join(config.served_names), load) or []

    @app.get("/v1/models", responses=ERROR_RESPONSES)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": await cards()}

    @app.get("/v1/models/{name:path}", responses=ERROR_RESPONSES)
    async def model(name: str) -> dict[str, Any]:
        for found in await cards():
            if found["id"] == name:
                return found
        raise NotFoundError(f"model {name[:80]!r} is not served here", field="model", value=name[:80])


def _health(app: FastAPI, link: EngineLink, caches: ServerCaches, metrics: ServerMetrics) -> None:
    def state() -> dict[str, Any]:
        progress = link.progress
        return {
            "engine": link.state.value,
            "restarts": link.restarts,
            "in_flight": link.in_flight,
            "model": None if link.model is None else {f: getattr(link.model, f) for f in link.model.__struct_fields__},
            "loading": None if progress is None else {"done": progress.done, "total": progress.total},
            "last_error": link.last_error,
            "warming": None if caches.warming is None else dict(zip(("done", "total"), caches.warming, strict=True)),
        }

    away: dict[int | str, dict[str, Any]] = {503: {"description": "No engine takes requests; see Retry-After."}}

    @app.get("/health", responses=away)
    @app.get("/health/ready", responses=away)
    async def ready() -> JSONResponse:
        up = link.state is LinkState.READY and caches.ready
        headers = {} if up else {"Retry-After": "1"}
        return JSONResponse({"status": "ready" if up else "unavailable"} | state(), 200 if up else 503, headers)

    @app.get("/health/live")
    async def live() -> dict[str, Any]:
        return {"status": "live"} | state()

    @app.get("/metrics", response_class=PlainTextResponse, responses=ERROR_RESPONSES)
    async def prometheus() -> Response:
        up = link.state is LinkState.READY
        metrics.up.set(up)
        metrics.restarts.set(link.restarts)
        try:
            metrics.observe(await link.stats())
        except EngineUnavailableError:
            log.debug("no engine metrics: the engine is away")
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _index(app: FastAPI, console: bool) -> None:
    @app.get("/")
    async def index() -> dict[str, Any]:
        found = {"name": "autoglm", "version": __version__, "api": "/v1", "openapi": "/openapi.json"}
        return found | {"console": "/console/"} if console else found
