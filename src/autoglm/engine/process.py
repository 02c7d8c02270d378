"""The engine in its own process: ``python -m autoglm.engine.process --fd N --model PATH --config JSON``.

Talks frames over an inherited socket (see :mod:`autoglm.messages`). Ends with status 0 on SIGTERM, on
:class:`Shutdown` and when the other side closes the socket; a crash is visible to the server as end of file.
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import socket
import sys
import threading
from collections import deque
from pathlib import Path
from types import FrameType

import msgspec

from autoglm.engine.config import EngineConfig
from autoglm.engine.engine import Engine
from autoglm.errors import RankLostError, RankMismatchError
from autoglm.messages import (
    Cancel,
    Command,
    Event,
    ForgetPrompts,
    FrameDecoder,
    GetStats,
    KeepSession,
    Progress,
    Ready,
    Shutdown,
    StatsReply,
    Submit,
    decode_command,
    encode_events,
)

log = logging.getLogger(__name__)
_IDLE_SECONDS = 0.25
_RANKS_STATUS = 70


class EngineProcess:
    """Commands in, events out, steps between."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._commands: deque[Command] = deque()
        self._wake = threading.Event()
        self._stop = False
        self._serving = False

    def stop(self) -> None:
        """Finish the current step, then return from :meth:`serve`."""
        self._stop = True
        self._wake.set()

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Stop; while other ranks are still waited for or weights loaded, end at once."""
        self.stop()
        if not self._serving:
            raise SystemExit(0)

    def progress(self, done: int, total: int) -> None:
        """Tell the server how loading goes on; ends the process if it was stopped meanwhile."""
        if self._stop:
            raise SystemExit(0)
        self.send([Progress(stage="weights", done=done, total=total)])

    def send(self, events: list[Event]) -> None:
        """Blocks while the server does not read: the engine must not run ahead of it without bound."""
        if events:
            self._connection.sendall(encode_events(events))

    def serve(self, engine: Engine) -> None:
        """Until stopped."""
        self._serving = True
        engine.on_ready(self._wake.set)
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        self.send([Ready(engine.info())])
        while not self._stop:
            self._obey(engine)
            if engine.can_step:
                self.send(engine.step())
                continue
            if engine.idle_step():  # what a client waits for is looked at after each
                continue
            if not engine.has_work and engine.config.check_integrity:
                engine.check_integrity()
            self._wake.wait(_IDLE_SECONDS)
            self._wake.clear()
        engine.close()

    def _obey(self, engine: Engine) -> None:
        while self._commands:
            command = self._commands.popleft()
            if isinstance(command, Submit):
                engine.submit(command)
            elif isinstance(command, Cancel):
                engine.cancel(command.id)
            elif isinstance(command, KeepSession):
                engine.keep(command)
            elif isinstance(command, ForgetPrompts):
                engine.prompts.forget()
            elif isinstance(command, GetStats):
                self.send([StatsReply(command.id, engine.stats())])
            elif isinstance(command, Shutdown):
                self._stop = True

    def _read(self) -> None:
        decoder = FrameDecoder()
        try:
            while data := self._connection.recv(2**18):
                for payload in decoder.feed(data):
                    self._commands.append(decode_command(payload))
                self._wake.set()
        except (OSError, ValueError, msgspec.MsgspecError):
            log.exception("the command stream broke")
        self.stop()


def main(argv: list[str] | None = None) -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="autoglm.engine.process")
    parser.add_argument("--fd", type=int, required=True, help="inherited socket")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--config", default="{}", help="EngineConfig as JSON")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    process = EngineProcess(socket.socket(fileno=options.fd))
    signal.signal(signal.SIGTERM, process.on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the server's to handle
    config = msgspec.json.decode(options.config, type=EngineConfig)
    try:
        engine = Engine.from_checkpoint(options.model, config, process.progress)
        if engine.ranks is not None:
            engine.ranks.end_process = True  # the server starts another
        gc.collect()
        gc.freeze()  # what importing and loading made stays: no collection walks all of it in the middle of a step
        process.serve(engine)
    except (BrokenPipeError, ConnectionResetError):
        log.info("the server is gone")
    except (RankLostError, RankMismatchError) as error:
        log.error("the engine ends: %s", error)
        return _RANKS_STATUS
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
