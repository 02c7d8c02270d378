"""Where the time to the first token goes, beside what the arithmetic alone would take on this core.

    python -m benchmarks.prefill_profile                     size small, cases a, b and c, 5 repetitions
    python -m benchmarks.prefill_profile --quick             size tiny, short prompts, 1 repetition
    python -m benchmarks.prefill_profile --table docs/prefill.md    only writes the table of the result into that page

Cases of :mod:`benchmarks.workload`, one token each, on one thread: a text; a screenshot and text; the second step of
a dialogue, of which the first part is in the cache. Each part's time is CPU time within the step; `limit` is the time
that its multiplications and additions would take at the rate of a loop that does nothing else, measured in the same
run. `torch` are the same steps without the kernels, in turns with them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoglm.model.glm4v import Glm4vModel
from autoglm.model.native.handle import Handle
from autoglm.model.native.library import peak_rate
from autoglm.model.native.prefill import PrefillKernels
from autoglm.model.native.tower import TowerKernels
from autoglm.synthetic import make_checkpoint
from benchmarks import results, workload
from benchmarks.checkpoints import kept
from benchmarks.clock import Clock
from benchmarks.prefill_arithmetic import Prompt, operations
from benchmarks.results import Result, Row
from benchmarks.rows import RESULTS, ROOT, about, add_table_option, finished, row, wrote_table
from benchmarks.subjects.autoglm import AutoGLM
from benchmarks.workload import Case, Request

RESULT = RESULTS / "prefill_profile.json"
CASES = {"a": "text", "b": "screenshot and text", "c": "second step of a dialogue"}
Times = dict[str, float]


class Plain(AutoGLM):
    """Prefill on torch."""

    options = {"native_prefill": False}  # noqa: RUF012 - as its base has it


def main() -> int:
    """Measure and write the result, or write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="size tiny, short prompts, 1 repetition")
    parser.add_argument("--size", help="default: small")
    parser.add_argument("--repetitions", type=int, help="default: 5")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench", help="derived files")
    parser.add_argument("--out", type=Path, default=RESULT)
    add_table_option(parser)
    options = parser.parse_args()
    if wrote_table(options, "prefill", table):
        return 0
    size = options.size or ("tiny" if options.quick else "small")
    repetitions = options.repetitions or (1 if options.quick else 5)
    result = measure(size, repetitions, workload.QUICK if options.quick else workload.FULL, options.cache)
    results.write(result, options.out)
    print(table(result))
    return 0


def measure(size: str, repetitions: int, spec: workload.Spec, cache: Path) -> Result:
    """All cases, with kernels and without in turns."""
    load = os.getloadavg()[0]
    checkpoint = kept(cache / "checkpoints" / size, lambda path: make_checkpoint(path, size))
    cases = {case.name: case for case in workload.build(checkpoint / "tokenizer.json", spec)}
    subjects = {"autoglm": AutoGLM(), "torch": Plain()}
    for subject in subjects.values():
        subject.load(checkpoint, 1, cache)
        for case in workload.warm_up(list(cases.values()), 1):
            subject.forget()
            subject.run(case.requests, Clock())
    rates = [peak_rate()]
    rows: list[Row] = []
    for name, about_it in CASES.items():
        before, request = _requests(cases[name])
        found: dict[str, list[Times]] = defaultdict(list)
        for _ in range(repetitions):
            for who, subject in subjects.items():
                found[who].append(_timed(subject, before, request))
        rates.append(peak_rate())
        rows += _rows(about_it, size, subjects["autoglm"], found, max(rates))
    rows.append(row("limit", "core", "multiply-add", [rate / 1e9 for rate in rates], "GFLOP/s", size=size))
    settings = {key: str(getattr(spec, key)) for key in ("text_tokens", "image_side", "image_text_tokens")}
    return finished("prefill_profile", rows, settings, load)


def _requests(case: Case) -> tuple[Request | None, Request]:
    """What is asked before, and what is measured; one token each."""
    asked = [replace(request, new_tokens=1) for request in case.requests[:2]]
    return (asked[0], asked[1]) if case.name == "c" else (None, asked[0])


def _timed(subject: AutoGLM, before: Request | None, request: Request) -> Times:
    """CPU seconds of each part of one request, and of all of it, as ``whole``."""
    subject.forget()
    if before is not None:
        subject.run([before], Clock())
    with _watched(subject) as times:
        start = time.process_time()
        (answer,) = subject.run([request], Clock())
        times["whole"] = time.process_time() - start
    times["tokens"] = answer.prompt_tokens or 0
    times["reused"] = answer.cached_tokens or 0
    return times


@contextmanager
def _watched(subject: AutoGLM) -> Iterator[Times]:
    """Times of the parts while it is open."""
    times: Times = defaultdict(float)
    model = subject._engine.runner.model
    assert isinstance(model, Glm4vModel)

    def count(_: nn.Module, __: Any, out: torch.Tensor) -> None:
        times["patches"] += len(out)

    handles = [
        [model.visual.patch_embed.register_forward_hook(count)],
        _watch(model.visual.patch_embed, "patch embedding", times),
        _watch(model.visual.embeddings, "position table", times),
        _watch(model.visual.blocks, "tower blocks", times),
        _watch(model.visual.downsample, "merger", times),
        _watch(model.visual.merger, "merger", times),
        _watch(model.decoder, "decoder layers", times),
        _watch(model.lm_head, "head", times),
    ]
    prompt = subject._prompt

    def timed_prompt(request: Request) -> Any:
        start = time.process_time()
        try:
            return prompt(request)
        finally:
            times["prompt"] += time.process_time() - start

    subject._prompt = timed_prompt  # type: ignore[method-assign]
    phases = {"decoder": _handle(model.decoder.kernels), "tower": _handle(model.visual.blocks.kernels)}
    for handle in phases.values():
        if handle is not None:
            handle.spent()
    try:
        yield times
    finally:
        del subject._prompt
        for hooks in handles:
            for hook in hooks:
                hook.remove()
        for name, handle in phases.items():
            if handle is not None:
                times |= {f"{name} {phase}": seconds for phase, seconds in handle.spent().items()}


def _watch(module: nn.Module, name: str, times: Times) -> list[Any]:
    begun: list[float] = []

    def before(*_: Any) -> None:
        begun.append(time.process_time())

    def after(*_: Any) -> None:
        times[name] += time.process_time() - begun.pop()

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


def _handle(kernels: object) -> Handle | None:
    return kernels.handle if isinstance(kernels, PrefillKernels | TowerKernels) else None


@dataclass(frozen=True, slots=True)
class _Part:
    """A line of the table: its name, the times it adds up, and the keys of its arithmetic."""

    name: str
    times: tuple[str, ...]
    arithmetic: tuple[str, ...] = ()


def _phases(where: str) -> list[_Part]:
    products = {"qkv": "qkv", "attend": "attention", "out": "out", "gate_up": "gate, up, SwiGLU", "down": "down"}
    others = {"norm": "norms, residuals", "write": "rotation, KV", "turn": "rows to panels and back"}
    found = [_Part(f"{where}: {name}", (f"{where} {p}",), (f"{where} {p}",)) for p, name in products.items()]
    return found + [_Part(f"{where}: {name}", (f"{where} {p}",)) for p, name in others.items()]


PARTS = [
    *_phases("decoder"),
    *_phases("tower"),
    _Part("patch embedding", ("patch embedding",), ("patch embedding",)),
    _Part("position table", ("position table",)),
    _Part("merger", ("merger",), ("merger",)),
    _Part("head", ("head",), ("head",)),
    _Part("tokens, image file, pixels", ("prompt",)),
]


def _rows(case: str, size: str, subject: AutoGLM, found: dict[str, list[Times]], rate: float) -> list[Row]:
    model = subject._engine.runner.model
    assert isinstance(model, Glm4vModel)
    mine, torch_ = found["autoglm"], found["torch"]
    first = mine[0]
    reused = int(first["reused"])
    arithmetic = operations(model, Prompt(int(first["tokens"]) - reused, reused, int(first["patches"])))
    whole, other = [t["whole"] * 1e3 for t in mine], [t["whole"] * 1e3 for t in torch_]
    limit = sum(arithmetic.values()) / rate
    rows = [
        row(case, "autoglm", "TTFT, CPU", whole, "ms", baseline="torch", against=other, size=size),
        row(case, "torch", "TTFT, CPU", other, "ms", size=size),
        row(case, "limit", "arithmetic", [limit * 1e3], "ms", size=size),
        row(case, "autoglm", "share of the limit", [limit * 1e3 / t for t in whole], "share", size=size),
    ]
    for part in PARTS:
        times = [sum(t[key] for key in part.times) * 1e3 for t in mine]
        if not any(times):
            continue
        rows.append(row(case, part.name, "time", times, "ms", size=size))
        least = sum(arithmetic.get(key, 0.0) for key in part.arithmetic) / rate * 1e3
        if least:
            rows.append(row(case, part.name, "share of the limit", [least / t for t in times], "share", size=size))
    named = [sum(t[key] for part in PARTS for key in part.times) for t in mine]
    rest = [(t["whole"] - n) * 1e3 for t, n in zip(mine, named, strict=True)]
    rows.append(row(case, "all else", "time", [max(0.0, r) for r in rest], "ms", size=size))
    return rows


def table(result: Result) -> str:
    """A line a part: its time, its share of the whole, and how near its products are to the core's limit."""
    limit = next(r for r in result.rows if r.case == "limit")
    lines = []
    for case in CASES.values():
        rows = {(r.subject, r.metric): r for r in result.rows if r.case == case}
        whole = rows["autoglm", "TTFT, CPU"]
        lines += [
            "",
            f"{case.capitalize()}: {whole.value:.0f} ms, {whole.ratio:.2f} times as fast as on torch; "
            f"arithmetic alone: {rows['limit', 'arithmetic'].value:.0f} ms.",
            "",
            "| part | ms | of the whole | of the limit |",
            "|---|---:|---:|---:|",
        ]
        for (subject, metric), one in rows.items():
            if metric == "time":
                share = rows.get((subject, "share of the limit"))
                near = "" if share is None else f"{share.value:.0%}"
                lines.append(f"| {subject} | {one.value:.1f} | {one.value / whole.value:.1%} | {near} |")
    lines += ["", f"{limit.case.capitalize()}: {limit.best:.1f} {limit.unit} on a core. {about(result)}"]
    return "\n".join(lines[1:])


if __name__ == "__main__":
    raise SystemExit(main())
