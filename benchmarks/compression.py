"""Fewer bytes between nodes: coded sums on slow links, screens, KV blocks, weight updates, and what answers lose by it.

    python -m benchmarks.compression                          all parts; as root, for the slow links; under five minutes
    python -m benchmarks.compression --parts links            only the slow links (network namespaces)
    python -m benchmarks.compression --table docs/parallel.md    only writes the tables of the result into that page

Parts measured by themselves replace their rows in the result and leave the others.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from autoglm.model.quantized.quality import Quality
from autoglm.model.resolve import PACKAGED, resolve_checkpoint
from benchmarks import results
from benchmarks.compression_quality import qualities
from benchmarks.compression_screens import kv_sizes, screen_sizes
from benchmarks.compression_updates import UpdateReport, adapter_update, fine_tune_update
from benchmarks.compression_worker import WIDTH
from benchmarks.results import Result, Row
from benchmarks.rows import RESULTS, ROOT, finished, row, table, write_section
from benchmarks.slow_link import last_json, python, slow_link

RESULT = RESULTS / "compression.json"
RATES = ("100mbit", "1gbit")
ROWS = (4096, 1024, 256, 64)
MORE_ROWS = {"1gbit": (16384,)}
"""Larger messages, where they take no minutes."""
LINK, SCREENS, KV, UPDATES, QUALITY = "link", "screens", "KV blocks", "weight update", "answers"
_LIMIT = 200.0
_QUESTIONS = ("打开设置，然后打开无线网络", "打开设置，然后把亮度调到最大")


def main() -> int:
    """Measure and write the result, or write its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rates", nargs="+", default=list(RATES))
    parser.add_argument("--repetitions", type=int, default=5, help="of a sum at least (default: 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of sums of one size at least (default: 4)")
    parser.add_argument("--episodes", type=int, default=30, help="phone tasks whose screens are coded (default: 30)")
    parser.add_argument("--steps", type=int, default=8, help="of training before and after an update (default: 8)")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--table", type=Path, help="write the tables of --out into this page, measure nothing")
    options = parser.parse_args()
    if options.table is not None:
        write_tables(options.table, results.read(options.out))
        return 0
    load = os.getloadavg()[0]
    rows = [found for name in options.parts for found in PARTS[name](options)]
    settings = {"repetitions": str(options.repetitions), "seconds": str(options.seconds)}
    settings |= {"episodes": str(options.episodes), "steps": str(options.steps)}
    result = finished("compression", rows, settings, load)
    if options.out.exists() and len(options.parts) < len(PARTS):
        result = _joined(results.read(options.out), result)
    results.write(result, options.out)
    print(table(result))
    return 0


def write_tables(page: Path, result: Result) -> None:
    """Each part's table, between its markers."""
    cases = dict.fromkeys(r.case for r in result.rows)
    write_section(page, "links", table(result, [c for c in cases if c.startswith(LINK)]))
    write_section(page, "sparse", table(result, [SCREENS, KV]))
    write_section(page, "updates", table(result, [UPDATES]))
    write_section(page, "quality", table(result, [QUALITY]))


def _joined(old: Result, new: Result) -> Result:
    """Rows of both; where a case is in both, the new one's."""
    fresh = {r.case for r in new.rows}
    return msgspec.structs.replace(new, rows=[r for r in old.rows if r.case not in fresh] + new.rows)


def _links(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for rate in options.rates:
        with slow_link(2, rate) as hosts:
            arguments = ["--repetitions", str(options.repetitions), "--seconds", str(options.seconds)]
            arguments += ["--rows", *map(str, ROWS + MORE_ROWS.get(rate, ()))]
            found: Any = last_json(hosts.run(python("benchmarks.compression_worker", *arguments), _LIMIT)[0])
        for count, subjects in found["rows"].items():
            rows += _link_rows(f"{LINK} {rate}", f"{int(count) * WIDTH * 4 // 1024} KiB", subjects)
        for form, size in found["crossover"].items():
            if size is not None:
                rows.append(row(f"{LINK} {rate}", form, "pays from", [size], "bytes"))
    return rows


def _link_rows(case: str, size: str, subjects: dict[str, Any]) -> list[Row]:
    rows = []
    times = {name: [s * 1e3 for s in found["seconds"]] for name, found in subjects.items()}
    for name, found in subjects.items():
        exact = name == "fp32"
        rows.append(
            row(case, name, "time", times[name], "ms", size=size)
            if exact
            else row(case, name, "time", times[name], "ms", baseline="fp32", against=times["fp32"], size=size)
        )
        if name.startswith("int"):
            rows.append(
                row(case, name, "time, bf16", times[name], "ms", baseline="bf16", against=times["bf16"], size=size)
            )
        rows.append(row(case, name, "relative error", [found["error"]], "error", size=size))
        rows.append(row(case, name, "error, ordinary channels", [found["ordinary"]], "error", size=size))
    return rows


def _screens(options: argparse.Namespace) -> list[Row]:
    found = screen_sizes(options.episodes)
    n = len(found.coded)
    totals = {"changed patches, raw": found.patches, "PNG": found.png, "coded": found.coded, "pixels": found.pixels}
    means = {name: [sum(values) / n] for name, values in totals.items()}
    worst = max(c / p for c, p in zip(found.coded, found.png, strict=True))
    rows = [row(SCREENS, name, "mean size", mean, "bytes", size=f"{n} pairs") for name, mean in means.items()]
    rows += [
        row(SCREENS, "coded", f"mean size, {name}", means["coded"], "bytes", baseline=name, against=means[name])
        for name in totals
        if name != "coded"
    ]
    rows.append(row(SCREENS, "coded", "largest beside its PNG", [worst], "error"))
    rows.append(row(SCREENS, "coded", "coding", found.encode_ms, "ms"))
    return [*rows, row(SCREENS, "coded", "decoding", found.decode_ms, "ms")]


def _kv(_options: argparse.Namespace) -> list[Row]:
    system = (ROOT / "examples" / "open-autoglm" / "system_zh.txt").read_text(encoding="utf-8")
    whole, missing, coded = kv_sizes(resolve_checkpoint(PACKAGED), system[:1500], _QUESTIONS)
    rows = [row(KV, "all blocks", "size", [whole], "bytes")]
    rows.append(row(KV, "lacking, raw", "size", [missing], "bytes", baseline="all blocks", against=[whole]))
    return [*rows, row(KV, "coded", "size", [coded], "bytes", baseline="all blocks", against=[whole])]


def _updates(options: argparse.Namespace) -> list[Row]:
    path = resolve_checkpoint(PACKAGED)
    rows = _update_rows("adapter", adapter_update(path, options.steps))
    return rows + _update_rows("fine-tune", fine_tune_update(path, options.steps))


def _update_rows(name: str, report: UpdateReport) -> list[Row]:
    raw, half, coded = [report.raw_bytes], [report.half_bytes], [report.coded_bytes]
    rows = [
        row(UPDATES, f"{name}, raw f32", "size", raw, "bytes"),
        row(UPDATES, f"{name}, raw 16 bits", "size", half, "bytes"),
        row(UPDATES, f"{name}, coded", "size", coded, "bytes", baseline="raw f32", against=raw),
        row(
            UPDATES,
            f"{name}, coded",
            "size, 16 bits",
            coded,
            "bytes",
            baseline="raw 16 bits",
            against=half,
        ),
        row(UPDATES, f"{name}, coded", "largest relative error", [report.error], "error"),
        row(UPDATES, f"{name}, coded", "sent as thin products", [report.thin / report.matrices], "share"),
        *_quality_rows(UPDATES, f"{name}, coded", report.quality),
    ]
    if report.adapter_bytes:
        rows.append(row(UPDATES, f"{name}, its own factors", "size", [report.adapter_bytes], "bytes"))
    return rows


def _quality(_options: argparse.Namespace) -> list[Row]:
    found = qualities(resolve_checkpoint(PACKAGED))
    return [r for form, quality in found.items() for r in _quality_rows(QUALITY, form, quality)]


def _quality_rows(case: str, subject: str, quality: Quality) -> list[Row]:
    return [
        row(case, subject, "mean divergence", [quality.mean_divergence], "nats"),
        row(case, subject, "divergence, 99 %", [quality.high_divergence], "nats"),
        row(case, subject, "same greedy token", [quality.agreement], "share"),
    ]


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "links": _links,
    "screens": _screens,
    "kv": _kv,
    "updates": _updates,
    "quality": _quality,
}


if __name__ == "__main__":
    sys.exit(main())
