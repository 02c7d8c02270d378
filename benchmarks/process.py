"""The runner's side of a subject's process."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_LIMIT_SECONDS = 1800.0


class SubjectError(RuntimeError):
    """The subject could not be loaded, failed in a case, or was silent for too long."""


def environment(threads: int) -> dict[str, str]:
    """This process's environment with every thread pool at ``threads`` and no network for model hubs."""
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(pools, str(threads)),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


class SubjectProcess:
    """Starts ``python -m benchmarks.worker``; use as a context manager. Idle between runs, it uses no CPU."""

    def __init__(self, subject: str, checkpoint: Path, cases: Path, cache: Path, threads: int) -> None:
        self.subject = subject
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        command = [sys.executable, "-m", "benchmarks.worker", "--subject", subject]
        command += ["--checkpoint", str(checkpoint), "--cases", str(cases)]
        command += ["--cache", str(cache), "--threads", str(threads)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(threads),
        )
        try:
            ready = self._read()
        except BaseException:
            self.close()
            raise
        self.versions: dict[str, str] = ready["versions"]
        self.load_seconds: float = ready["load_seconds"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, case: str) -> dict[str, Any]:
        """One repetition of ``case``; the worker's answer as it is."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"run": case}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SubjectError(f"{self.subject} is gone:\n{self._stderr()}") from None
        return self._read()

    def close(self) -> None:
        """End the process; safe to call twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(_LIMIT_SECONDS):
                raise SubjectError(f"{self.subject} said nothing for {_LIMIT_SECONDS:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise SubjectError(f"{self.subject} ended without an answer:\n{self._stderr()}")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise SubjectError(f"{self.subject}: {message['error']}")
        return message

    def _stderr(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-2000:].decode(errors="replace")
