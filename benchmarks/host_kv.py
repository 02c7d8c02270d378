"""The host tier: what a returning session gains, what tiers and look-ahead are worth on a trace, and soundness.

python -m benchmarks.host_kv --traces DIR     the published conversation trace; without it a synthetic one
python -m benchmarks.host_kv --quick          tiny model, short session, synthetic trace, few operations
python -m benchmarks.host_kv --parts trace    one part; rows of the others are kept as they are in the file
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec
import torch

from autoglm.engine import Engine, EngineConfig
from autoglm.messages import Output, SamplingParams
from autoglm.prompt import Prompt
from autoglm.synthetic import make_checkpoint
from benchmarks import kv_trace, results
from benchmarks.checkpoints import kept
from benchmarks.host_kv_random import Exercise
from benchmarks.results import Load, Result, Row

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "host_kv.json"
PARTS = ("session", "trace", "random")
_QUEUE = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one run. ``capacities``: of the pool, in tokens; ``tiered``: those also measured with host memory."""

    size: str
    session_tokens: int
    repetitions: int
    trace: str
    capacities: tuple[int, ...]
    tiered: tuple[int, ...]
    operations: int


def plan_of(quick: bool, traces: Path | None) -> Plan:
    """The quick form runs the same code on less."""
    trace = "mooncake conversation" if traces is not None else "synthetic"
    if quick:
        return Plan("tiny", 512, 1, trace, (100_000, 300_000), (100_000,), 4_000)
    million = 10**6
    capacities = tuple(n * million for n in (1, 3, 5, 10, 20, 50))
    return Plan("small", 4096, 3, trace, capacities, (1 * million, 3 * million), million)


def session_rows(plan: Plan, checkpoint: Path) -> list[Row]:
    """Time to first token of a session that left the pool: computed, from host memory, from disk after a restart."""
    draw = random.Random(0)
    times: dict[tuple[str, str], list[float]] = {}
    with TemporaryDirectory() as folder:
        config = msgspec.structs.replace(_sizes(plan), threads=1, kv_disk_directory=folder)
        engine = Engine.from_checkpoint(checkpoint, config)
        sessions = [[draw.randrange(100, 8000) for _ in range(plan.session_tokens)] for _ in range(plan.repetitions)]
        for ids in sessions:
            _timed(times, "computed", engine, ids, cached=False)
            _push_out(engine)
            # As a returning session does, it brings a few tokens more.
            _timed(times, "host memory", engine, [*ids, *ids[:8]], cached=True)
            _push_out(engine)
        engine.close()
        for ids in sessions:
            engine = Engine.from_checkpoint(checkpoint, config)
            _timed(times, "disk, restarted", engine, [*ids, *ids[:8]], cached=True)
            engine.close()
    return [
        _row(plan, f"session of {plan.session_tokens} tokens", subject, metric, unit, values, "computed", times)
        for (subject, metric), values in times.items()
        for unit in [{"TTFT": "s", "TTFT, CPU": "CPU s"}[metric]]
    ]


def trace_rows(plan: Plan, trace: kv_trace.Trace) -> list[Row]:
    """Hit share of all blocks; the baseline is a plain LRU of the pool's capacity."""
    rows: list[Row] = []
    for tokens in plan.capacities:
        blocks = tokens // kv_trace.BLOCK_TOKENS
        shares = {
            "plain LRU": kv_trace.plain_lru(trace, blocks).share,
            "pool": kv_trace.replay(trace, blocks).share,
            f"pool, {_QUEUE} waiting": kv_trace.replay(trace, blocks, queue=_QUEUE).share,
        }
        if tokens in plan.tiered:
            shares["pool, host 4:1"] = kv_trace.replay(trace, blocks, host=4 * blocks).share
            shares[f"pool, host 4:1, {_QUEUE} waiting"] = kv_trace.replay(
                trace, blocks, host=4 * blocks, queue=_QUEUE
            ).share
        case = f"{plan.trace} trace, {tokens / 1e6:g} M tokens"
        for subject, share in shares.items():
            base = shares["plain LRU"]
            ratio = None if subject == "plain LRU" else results.ratio(share, base, "share")
            rows.append(_plain(case, subject, "KV hits", share, "share", "plain LRU", ratio))
    every = kv_trace.unbounded(trace)
    rows.append(
        _plain(f"{plan.trace} trace, no limit", "everything kept", "KV hits", every, "share", "plain LRU", None)
    )
    return rows


def random_rows(plan: Plan) -> list[Row]:
    """Random operations on the tier; the first two must be zero."""
    start = time.process_time()
    report = Exercise(seed=0).run(plan.operations)
    seconds = time.process_time() - start
    case = f"{plan.operations} random operations"
    counts = {
        "wrong blocks or objects": report.wrong,
        "evicted though enough was free": report.fragmented,
        "blocks loaded": report.loads,
        "evictions": report.evictions,
        "bytes moved between classes": report.moved_bytes,
    }
    rows = [_plain(case, "host tier", metric, float(n), "count", "none", None) for metric, n in counts.items()]
    return [*rows, _plain(case, "host tier", "total, CPU", seconds, "CPU s", "none", None)]


def main() -> int:
    """Run the parts asked for, write the result; status 1 if a block was wrong or a byte lost."""
    options = _arguments()
    plan = plan_of(options.quick, options.traces)
    plan = replace(plan, repetitions=options.repetitions or plan.repetitions)
    start = os.getloadavg()[0]
    makers: dict[str, Callable[[], list[Row]]] = {
        "session": lambda: session_rows(plan, _checkpoint(options.cache, plan.size)),
        "trace": lambda: trace_rows(plan, _trace(options.traces, options.quick)),
        "random": lambda: random_rows(plan),
    }
    fresh = [row for part in options.parts for row in makers[part]()]
    cases = {row.case for row in fresh}
    kept = [row for row in results.read(options.out).rows if row.case not in cases] if options.out.exists() else []
    end = os.getloadavg()[0]
    result = Result(
        name="host_kv",
        date=results.now(),
        commit=results.commit(ROOT),
        machine=results.machine(),
        load=Load(start=start, end=end, highest=max(start, end)),
        versions={"torch": str(torch.__version__)},
        settings={"queue": str(_QUEUE), "block tokens of the trace": str(kv_trace.BLOCK_TOKENS)},
        rows=[*kept, *fresh],
        failures=[],
    )
    results.write(result, options.out)
    for row in fresh:
        print(f"{row.case:40} {row.subject:32} {row.metric:32} {row.value:12.4f} {row.unit} {row.ratio or ''}")
    zero = ("wrong blocks or objects", "evicted though enough was free")
    return 1 if any(row.value for row in fresh if row.metric in zero) else 0


def _sizes(plan: Plan) -> EngineConfig:
    """A pool that holds one session and little more, and host memory for four."""
    from autoglm.model.synthetic import SIZES

    shape = SIZES[plan.size]
    per_token = 2 * shape.layers * 2 * shape.head_dim * 4
    return EngineConfig(
        kv_cache_bytes=(plan.session_tokens + 256) * per_token,
        host_kv_bytes=4 * plan.session_tokens * per_token,
        kv_fetch_ms=60_000,
    )


def _timed(
    times: dict[tuple[str, str], list[float]], subject: str, engine: Engine, ids: Sequence[int], *, cached: bool
) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    engine.submit_prompt("r", Prompt(list(ids), ()), SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True))
    found: Output | None = None
    while engine.has_work:
        found = next((e for e in engine.step() if isinstance(e, Output)), found)
    times.setdefault((subject, "TTFT"), []).append(time.perf_counter() - wall)
    times.setdefault((subject, "TTFT, CPU"), []).append(time.process_time() - cpu)
    if found is None or found.finish is None or (found.finish.usage.cached_tokens > len(ids) // 2) != cached:
        raise RuntimeError(f"{subject}: not what was to be measured: {found}")
    engine.check_integrity()


def _push_out(engine: Engine) -> None:
    """Take every block of the pool once, as other sessions would: what is there leaves by copy."""
    table, _, _ = engine.kv.open("others", [], 0)
    if not engine.kv.grow(table, engine.kv.available * engine.kv.block_size):
        raise RuntimeError("the pool did not give what it counted as available")
    engine.kv.flush()
    engine.kv.release(table, [], 0)


def _row(
    plan: Plan,
    case: str,
    subject: str,
    metric: str,
    unit: str,
    values: Sequence[float],
    baseline: str,
    times: dict[tuple[str, str], list[float]],
) -> Row:
    value = median(values)
    ratio = None if subject == baseline else results.ratio(value, median(times[baseline, metric]), unit)
    return Row(
        case=case,
        subject=subject,
        metric=metric,
        value=value,
        unit=unit,
        baseline=baseline,
        ratio=ratio,
        best=min(values),
        repetitions=len(values),
        size=plan.size,
        threads=1,
    )


def _plain(case: str, subject: str, metric: str, value: float, unit: str, baseline: str, ratio: float | None) -> Row:
    return Row(
        case=case,
        subject=subject,
        metric=metric,
        value=value,
        unit=unit,
        baseline=baseline,
        ratio=ratio,
        best=value,
        repetitions=1,
        size="-",
        threads=1,
    )


def _trace(traces: Path | None, quick: bool) -> kv_trace.Trace:
    if traces is not None:
        return kv_trace.read_mooncake(traces / kv_trace.MOONCAKE)
    return kv_trace.synthetic(400 if quick else 10_000)


def _checkpoint(cache: Path, size: str) -> Path:
    return kept(cache / "checkpoints" / size, lambda path: make_checkpoint(path, size))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, help=f"folder with {kv_trace.MOONCAKE}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repetitions", type=int, help="sessions timed")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
