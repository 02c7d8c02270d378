"""Hit rates of the first level's policies on traces, beside the optimum and the best fixed policy.

    python -m benchmarks.cache_policy --traces DIR    the stored traces; writes benchmarks/results/cache_policy.json
    python -m benchmarks.cache_policy --quick         a synthetic trace made by code, nothing is stored

Capacities are 5, 10 and 20 % of a trace's distinct keys. ``hit_ratio_baselines.json`` in DIR, if there, holds the hit
rates of published policies and libraries on the same traces. Status 1 if the adaptive policy misses a bar: on each row
LRU less one point and the best fixed policy less two points; over the stored traces a mean share of the optimum.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from autoglm.cache.local import Implementation, LocalCache, LocalConfig, Policy
from benchmarks import results
from benchmarks.cache_traces import STORED, Trace, belady, stored, synthetic, zipf
from benchmarks.results import Load, Result, Row

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "cache_policy.json"
PLOT = ROOT / "docs" / "images" / "cache_policy.png"
BASELINES = "hit_ratio_baselines.json"
SHARES = (0.05, 0.1, 0.2)
BEHIND_LRU, BEHIND_BEST, OF_BELADY = 0.01, 0.02, 0.833
# Of the baselines: neither an optimum nor another adaptive window.
NOT_FIXED = ("belady", "minisim", "adaptive", "cap")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trace at one capacity: hit rates between 0 and 1.

    Attributes:
        fixed: published fixed policies by name, ours included.
    """

    trace: str
    share: float
    entries: int
    adaptive: float
    window: float
    belady: float
    fixed: dict[str, float]

    @property
    def case(self) -> str:
        return f"{self.trace}@{self.share:g}"

    @property
    def best(self) -> tuple[str, float]:
        """The best fixed policy."""
        name = max(self.fixed, key=self.fixed.__getitem__)
        return name, self.fixed[name]

    def shortfalls(self) -> list[str]:
        """Bars missed."""
        found = []
        if self.adaptive < self.fixed["lru"] - BEHIND_LRU:
            found.append(f"{self.case}: {self.adaptive:.4f} is more than a point below LRU's {self.fixed['lru']:.4f}")
        if self.adaptive < self.best[1] - BEHIND_BEST:
            found.append(f"{self.case}: {self.adaptive:.4f} is more than two points below {self.best}")
        return found


def main() -> int:
    """Replay, print, write; status 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if (options.traces is None) == (not options.quick):
        parser.error("give --traces DIR or --quick")
    start = os.getloadavg()[0]
    traces = [synthetic()] if options.quick else [*stored(options.traces), zipf(), synthetic(400_000)]
    outcomes = replay_all(traces, options.traces)
    missed = [line for outcome in outcomes for line in outcome.shortfalls()]
    mean = mean_share(real(outcomes))
    if mean < OF_BELADY:
        missed.append(f"mean share of the optimum {mean:.4f} is below {OF_BELADY}")
    for o in outcomes:
        print(
            f"{o.case:22} {o.entries:6} adaptive {o.adaptive:.4f} lru {o.fixed['lru']:.4f}",
            f"best {o.best[1]:.4f} {o.best[0]} optimum {o.belady:.4f}",
        )
    print(f"mean share of the optimum {mean:.4f}", *missed, sep="\n")
    out, plot = options.out or (None if options.quick else RESULT), options.plot or (None if options.quick else PLOT)
    if out is not None:
        results.write(as_result(outcomes, start), out)
    if plot is not None:
        draw(outcomes, plot)
    return 1 if missed else 0


def replay_all(traces: list[Trace], folder: Path | None) -> list[Outcome]:
    """Every trace at every capacity."""
    published = published_rates(folder)
    return [replay(trace, share, published.get(f"{trace.name}@{share:g}", {})) for trace in traces for share in SHARES]


def published_rates(folder: Path | None) -> dict[str, dict[str, float]]:
    """Case to policy to hit rate, and ``cap`` in entries; nothing without the file."""
    file = None if folder is None else folder / BASELINES
    if file is None or not file.exists():
        return {}
    return msgspec.json.decode(file.read_bytes(), type=dict[str, dict[str, float]])


def replay(trace: Trace, share: float, published: dict[str, float]) -> Outcome:
    """One trace at one capacity, that of the published rates if there are some."""
    entries = int(published.get("cap", trace.distinct * share))
    ours, windows = {}, {}
    for policy in Policy:
        cache: LocalCache[int, int] = LocalCache(
            LocalConfig(entries, ttl=None, policy=policy, implementation=Implementation.SLAB)
        )
        get, put = cache.get, cache.put
        for key in trace.keys:
            if get(key) is None:
                put(key, 1)
        ours[policy], windows[policy] = cache.stats().hit_rate, cache.window_share
    fixed = {name: rate for name, rate in published.items() if not any(word in name for word in NOT_FIXED)}
    return Outcome(
        trace=trace.name,
        share=share,
        entries=entries,
        adaptive=ours[Policy.ADAPTIVE],
        window=windows[Policy.ADAPTIVE],
        belady=belady(trace.keys, entries),
        fixed=fixed | {"lru": ours[Policy.LRU], "lfu": ours[Policy.LFU]},
    )


def mean_share(outcomes: list[Outcome], policy: str = "adaptive") -> float:
    """Mean over the rows of the policy's hits to the optimum's."""
    return statistics.mean((o.adaptive if policy == "adaptive" else o.fixed[policy]) / o.belady for o in outcomes)


def real(outcomes: list[Outcome]) -> list[Outcome]:
    """Those on stored traces; all if there are none."""
    return [o for o in outcomes if o.trace in STORED] or outcomes


def as_result(outcomes: list[Outcome], load: float) -> Result:
    """The result file: hit rates, and the means at its end."""
    rows = []
    for o in outcomes:
        name, best = o.best
        lru = o.fixed["lru"]
        for subject, rate in (("adaptive", o.adaptive), ("lru", lru), ("lfu", o.fixed["lfu"]), ("optimum", o.belady)):
            rows.append(_row(o.case, subject, "hit rate", rate, lru if subject != "lru" else None, o.entries))
        rows.append(_row(o.case, f"best fixed: {name}", "hit rate", best, lru, o.entries))
        rows.append(_row(o.case, "adaptive", "share of the optimum", o.adaptive / o.belady, None, o.entries))
        rows.append(_row(o.case, "adaptive", "window at the end", o.window, None, o.entries))
    for case, some in (("stored traces", real(outcomes)), ("all", outcomes)):
        for subject in ("adaptive", "lru", "lfu"):
            rows.append(_row(case, subject, "mean share of the optimum", mean_share(some, subject), None, 0))
    end = os.getloadavg()[0]
    return Result(
        name="cache_policy",
        date=results.now(),
        commit=results.commit(ROOT),
        machine=results.machine(),
        load=Load(start=load, end=end, highest=max(load, end)),
        versions={"python": sys.version.split()[0]},
        settings={
            "capacity": "5, 10, 20 % of the distinct keys",
            "optimum": "Belady's, may leave a key out",
            "best fixed": "of the published policies and libraries on the same trace, ours without adaptation included",
        },
        rows=rows,
        failures=[],
    )


def _row(case: str, subject: str, metric: str, value: float, lru: float | None, entries: int) -> Row:
    return Row(
        case=case,
        subject=subject,
        metric=metric,
        value=round(value, 5),
        unit="share",
        baseline="" if lru is None else "lru",
        ratio=None if lru is None else results.ratio(value, lru, "share"),
        best=round(value, 5),
        repetitions=1,
        size=f"{entries} entries" if entries else "",
        threads=1,
        precision="",
    )


def _label(o: Outcome) -> str:
    return f"{o.trace.replace('_', chr(10))}\n{o.share:.0%}"


def draw(outcomes: list[Outcome], file: Path) -> None:
    """A small PNG: hit rates per trace and capacity."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8), dpi=80, layout="constrained")
    panel = figure.subplots()
    series = {
        "LRU": [o.fixed["lru"] for o in outcomes],
        "LFU": [o.fixed["lfu"] for o in outcomes],
        "best fixed policy": [o.best[1] for o in outcomes],
        "adaptive": [o.adaptive for o in outcomes],
    }
    colours = ("#9aa5b1", "#c9b38c", "#7a9e7e", "#2f5d8a")
    for index, ((label, rates), colour) in enumerate(zip(series.items(), colours, strict=True)):
        at = [place + (index - 1.5) * 0.2 for place in range(len(outcomes))]
        panel.bar(at, [100 * rate for rate in rates], width=0.19, label=label, color=colour)
    for place, o in enumerate(outcomes):
        panel.hlines(100 * o.belady, place - 0.42, place + 0.42, color="black", linewidth=1.2)
    panel.plot([], [], color="black", linewidth=1.2, label="optimum (Belady)")
    panel.set_xticks(range(len(outcomes)), [_label(o) for o in outcomes], fontsize=7)
    panel.set_ylabel("hit rate, %")
    panel.legend(fontsize="small", ncols=5, loc="upper left")
    panel.set_ylim(0, 110)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(main())
