"""What the page shows about the engine: caches, memory, the model."""

from __future__ import annotations

from typing import Any

from autoglm.errors import EngineUnavailableError
from autoglm.server.link import EngineLink, LinkState


async def figures_of(link: EngineLink, name: str) -> dict[str, Any]:
    """The model's ``name`` and figures: counters since the engine's start, sizes in bytes.

    ``stats`` is null while no engine takes requests.
    """
    found: dict[str, Any] = {"name": name, "engine": link.state.value, "model": None, "loading": None, "stats": None}
    if link.model is not None:
        found["model"] = {name: getattr(link.model, name) for name in ("layout", "parameters", "dtype", "device")}
    if link.state is not LinkState.READY:
        if link.progress is not None:
            found["loading"] = {"done": link.progress.done, "total": link.progress.total}
        return found
    try:
        stats = await link.stats()
    except EngineUnavailableError:
        return found | {"engine": link.state.value}
    plain = {name: getattr(stats, name) for name in stats.__struct_fields__ if name != "caches"}
    caches = [{name: getattr(cache, name) for name in cache.__struct_fields__} for cache in stats.caches]
    return found | {"stats": plain | {"caches": caches}}
