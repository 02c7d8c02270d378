"""The OpenAI-compatible HTTP server: one process, no model in it."""

from autoglm.server.app import create_app
from autoglm.server.config import ServerConfig
from autoglm.server.console.config import ConsoleConfig
from autoglm.server.link import EngineLink, LinkState
from autoglm.server.run import serve

__all__ = ["ConsoleConfig", "EngineLink", "LinkState", "ServerConfig", "create_app", "serve"]
