"""The process of one subject: commands come on stdin, answers go to stdout, one JSON object a line.

    {"run": "a", "cold": true}  ->  {"wall": s, "cpu": s, "rss": bytes, "load": average, "answers": [...]}

The first answer, without a command, is {"versions": {...}, "load_seconds": s}; any failure is {"error": "..."}.
Standard output of libraries is turned to stderr, so that nothing else can appear between the lines.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import subjects, workload
from benchmarks.clock import Clock, peak_rss_bytes
from benchmarks.subjects.base import Answer, Subject
from benchmarks.workload import Case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subject", required=True, choices=subjects.SUBJECTS)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--cases", required=True, type=Path)
    parser.add_argument("--cache", required=True, type=Path)
    parser.add_argument("--threads", required=True, type=int)
    options = parser.parse_args()
    say = _protect_stdout()
    try:
        cases = {case.name: case for case in workload.load(options.cases)}
        clock = Clock()
        subject = subjects.make(options.subject)
        versions = subject.load(options.checkpoint, options.threads, options.cache)
        say({"versions": versions, "load_seconds": clock().wall})
        for line in sys.stdin:
            command = json.loads(line)
            say(run(subject, cases[command["run"]]))
    except Exception:
        say({"error": traceback.format_exc(limit=-6)})
    sys.stdout.flush()
    # Subjects hold native threads whose teardown is not part of the measurement and may hang.
    os._exit(0)


def run(subject: Subject, case: Case) -> dict[str, Any]:
    """All requests of a case from a cold start, timed; raises if an answer is not complete."""
    subject.forget()
    answers: list[Answer] = []
    total = Clock()
    if case.concurrent:
        answers = subject.run(case.requests, total.restarted())
    else:
        for request in case.requests:
            answers += subject.run([request], total.restarted())
    wall, cpu = total()
    for request, answer in zip(case.requests, answers, strict=True):
        if not len(answer.tokens) == len(answer.marks) == request.new_tokens:
            raise RuntimeError(
                f"case {case.name}: {request.new_tokens} tokens wanted, got {len(answer.tokens)} "
                f"with {len(answer.marks)} arrival times"
            )
    return {
        "wall": wall,
        "cpu": cpu,
        "rss": peak_rss_bytes(),
        "load": os.getloadavg()[0],
        "answers": [asdict(answer) for answer in answers],
    }


def _protect_stdout() -> Callable[[dict[str, Any]], None]:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    return say


if __name__ == "__main__":
    main()
