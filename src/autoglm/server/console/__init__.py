"""The console: simulated phones behind the server, operated by people and by the model, and the page that shows them."""

from autoglm.server.console.config import ConsoleConfig
from autoglm.server.console.routes import add_console
from autoglm.server.console.phones import Phones

__all__ = ["ConsoleConfig", "Phones", "add_console"]
