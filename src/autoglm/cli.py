"""The ``autoglm`` command. Thin: it parses, and turns our errors into one line and a status."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from autoglm import __version__
from autoglm.errors import AutoGLMError

COMMANDS = ("serve", "generate", "inspect", "agent", "quantize", "cache", "tune")


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand; 0 fine, 2 the user's mistake, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="autoglm", description="Serve AutoGLM-Phone class models.")
    parser.add_argument("--version", action="version", version=f"autoglm {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    words = sys.argv[1:] if argv is None else argv
    # A command that is named is the only one imported: not every command needs torch.
    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        import_module(f"autoglm.commands.{name}").add_parser(commands)
    options = parser.parse_args(argv)
    try:
        status: int = options.run(options)
    except AutoGLMError as error:
        print(f"autoglm: {error.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    raise SystemExit(main())
