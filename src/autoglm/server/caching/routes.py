"""Looking at the caches, warming and purging them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from autoglm.cache.dialogue import SESSION_PATTERN, check_session
from autoglm.errors import EngineUnavailableError
from autoglm.server.caching.answer import tenant_of
from autoglm.server.caching.caches import ServerCaches
from autoglm.server.config import ServerConfig
from autoglm.server.link import EngineLink
from autoglm.server.openapi import ERROR_RESPONSES

_LATER: dict[int | str, dict[str, Any]] = {
    202: {"description": "Done here; the shared store does not answer and will be told once it does."}
}
_NAMES = "responses|models|dialogue|prompts"


def add_cache_routes(app: FastAPI, config: ServerConfig, caches: ServerCaches, link: EngineLink) -> None:
    """``/v1/cache/…`` and ``/v1/sessions/{session}/cache``."""

    @app.get("/v1/cache/stats", responses=ERROR_RESPONSES)
    async def stats() -> Response:
        """Hits, misses, loads and sizes of every cache, engine included if it answers."""
        try:
            engine: list[Any] = list((await link.stats()).caches)
        except EngineUnavailableError:
            engine = []
        return Response(msgspec.json.encode(caches.figures() | {"engine": engine}), media_type="application/json")

    @app.post("/v1/cache/warm", responses=ERROR_RESPONSES)
    async def warm() -> dict[str, int]:
        """Warm up again from the configured file and prompts."""
        return {"entries": await caches.warm_up()}

    @app.post("/v1/cache/purge", responses=ERROR_RESPONSES | _LATER)
    async def purge(cache: Annotated[str | None, Query(pattern=f"^({_NAMES})$")] = None) -> JSONResponse:
        """Empty one cache, or all, for everybody."""
        everywhere = await caches.purge(cache)
        return JSONResponse({"everywhere": everywhere}, 200 if everywhere else 202)

    @app.delete("/v1/sessions/{session}/cache", responses=ERROR_RESPONSES | _LATER)
    async def purge_session(request: Request, session: Annotated[str, Path(pattern=SESSION_PATTERN)]) -> JSONResponse:
        """Forget the answers of one session of this API key, those under way included, before this returns."""
        done = await caches.responses.purge(tenant_of(request.headers, config.api_keys), check_session(session))
        body = {"session": session, "entries": done.entries, "everywhere": done.everywhere}
        return JSONResponse(body, 200 if done.everywhere else 202)
