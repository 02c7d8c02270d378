"""The real server with the real engine, in a process of its own: ``child.py SERVER_JSON ENGINE_JSON``.

Prints the base URL once the port is bound. Ends with the status of :func:`autoglm.server.serve`.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from autoglm.server import ConsoleConfig, ServerConfig, serve
from autoglm.server.caching.config import CachingConfig


def announce(url: str, *_parts: object) -> None:
    print(url, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    options = json.loads(sys.argv[1])
    for name in ("served_names", "allowed_hosts", "api_keys", "image_hosts"):
        options[name] = tuple(options.get(name, ServerConfig.__dataclass_fields__[name].default))
    if options.get("image_directory"):
        options["image_directory"] = Path(options["image_directory"])
    if isinstance(options.get("console"), dict):
        options["console"] = ConsoleConfig(**options["console"])
    caching = options.get("caching", {})
    if caching.get("warm_up"):
        caching["warm_up"] = Path(caching["warm_up"])
    options["caching"] = CachingConfig(**caching)
    raise SystemExit(serve(ServerConfig(**options), json.loads(sys.argv[2]), announce))
