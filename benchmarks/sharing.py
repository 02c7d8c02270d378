"""What sharing saves on the described layout: memory at 9 B shapes and latency, 16 phones with 6 steps each.

    python -m benchmarks.sharing                 measure, write the result and the plot
    python -m benchmarks.sharing --quick

``independent``: every request has caches of its own: self-attention KV, visual keys and values, and in every
cross-attention layer the time gate's keys, which all of them share otherwise. ``shared``: one prefix tree and one pool
of visual keys and values, read by layers, steps and sessions, from which goes what a client no longer shows. All
screens are different, so no picture is shared between sessions; more would only help.

Tokens and images are counted by the engine's own pools while it answers with a small model; their bytes are those of
the 9 B model's tensors, built on the meta device. ``running``: the most that requests in flight held at once; ``kept``:
what is held after the last step for the steps to come. Seconds are the small model's; in CPU
time they are latencies on a free core, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from autoglm.cache import Worth
from autoglm.engine import Engine, EngineConfig
from autoglm.model.autoglm_phone import AutoGLMPhoneConfig, AutoGLMPhoneModel, reference_config
from autoglm.synthetic import make_phone_checkpoint
from benchmarks import results
from benchmarks.checkpoints import kept
from benchmarks.dialogues import Phone, Script, play, serving
from benchmarks.results import Result, Row
from benchmarks.rows import RESULTS, ROOT, finished

RESULT = RESULTS / "sharing.json"
PLOT = ROOT / "docs" / "images" / "sharing.svg"
SUBJECTS = ("independent", "shared")
SESSIONS = 16
FULL = Script(steps=6, new_tokens=64, system_words=1000, turn_words=25, side=336)
QUICK = Script(steps=2, new_tokens=4, system_words=60, turn_words=8, side=112)


@dataclass(frozen=True, slots=True)
class Bytes:
    """Of the 9 B model: of a token's KV, of an image's keys and values, and of the gate's keys in them."""

    token: int
    image: int
    gate: int
    layers: int

    @classmethod
    def of_reference(cls) -> Bytes:
        """From the tensors themselves, on the meta device, in bfloat16."""
        raw = reference_config()
        config = AutoGLMPhoneConfig.from_dict(raw)
        with torch.device("meta"):
            model = AutoGLMPhoneModel(config).to(torch.bfloat16)
            side = int(config.vision.num_tokens**0.5)
            pixels = torch.empty(3, side * config.vision.patch_size, side * config.vision.patch_size)
            features = model.encode_images([pixels], [(1, side, side)])[0]
        return cls(
            model.kv_spec.bytes_per_token, features.nbytes, features.tensors[-1].nbytes, len(config.fusion.layers)
        )

    def total(self, tokens: int, images: int, *, shared: bool) -> int:
        """Bytes of so many tokens and images; where layers share nothing, each has the gate's keys for itself."""
        copies = 0 if shared else (self.layers - 1) * self.gate
        return tokens * self.token + images * (self.image + copies)


@dataclass(frozen=True, slots=True)
class Count:
    """What the engine held, in tokens and images, and how long its answers took, in seconds."""

    running_tokens: int
    running_images: int
    kept_tokens: int
    kept_images: int
    ttft: float
    ttft_cpu: float
    answer: float
    answer_cpu: float
    seconds: float
    cpu: float
    tokens: list[list[int]]


def count(checkpoint: Path, script: Script, sessions: int, *, shared: bool) -> Count:
    """Run the workload once."""
    config = EngineConfig(
        threads=1,
        kv_cache_bytes=2**30,
        visual_cache_bytes=2**30,
        max_running=sessions,
        idle_prefill=False,
    )
    engine = Engine.from_checkpoint(checkpoint, config)
    kv, phones = engine.kv, [Phone(number, script, private=not shared) for number in range(sessions)]
    most = [0, 0]

    def watch() -> None:
        most[0] = max(most[0], kv.num_blocks - kv.available)
        most[1] = max(most[1], len(engine.scheduler.running))

    cpu = time.process_time()
    with serving(engine) as connection:
        seconds = play(connection, phones, watch=watch)
    cpu = time.process_time() - cpu
    engine.check_integrity()
    if kv.counters.evictions or engine.visual.counters.evictions:
        raise RuntimeError("the pools must hold everything, or nothing is compared")
    steps = [step for phone in phones for step in phone.steps]
    dropped = kv.idle_blocks(Worth.DROPPED)
    return Count(
        running_tokens=most[0] * kv.block_size,
        running_images=most[1],  # a request shows one screen
        kept_tokens=(kv.indexed_blocks - dropped) * kv.block_size,
        kept_images=len(engine.visual) - engine.visual.dropped_entries,
        ttft=fmean(step.ttft for step in steps),
        ttft_cpu=fmean(step.ttft_cpu for step in steps),
        answer=fmean(step.seconds for step in steps),
        answer_cpu=fmean(step.cpu for step in steps),
        seconds=seconds,
        cpu=cpu,
        tokens=[step.tokens for step in steps],
    )


def rows_of(counts: dict[str, list[Count]], size: Bytes, case: str) -> list[Row]:
    """One row per subject and metric; the baseline is ``independent``."""
    rows: list[Row] = []
    values: dict[tuple[str, str], list[float]] = {}
    units: dict[str, str] = {}

    def add(subject: str, metric: str, unit: str, value: float) -> None:
        values.setdefault((subject, metric), []).append(value)
        units[metric] = unit

    for subject, runs in counts.items():
        shared = subject == "shared"
        for run in runs:
            kept = size.total(run.kept_tokens, run.kept_images, shared=shared)
            running = size.total(run.running_tokens, run.running_images, shared=shared)
            add(subject, "memory kept, 9 B", "GB", kept / 1e9)
            add(subject, "memory running, 9 B", "GB", running / 1e9)
            add(subject, "KV tokens kept", "count", run.kept_tokens)
            add(subject, "KV tokens running", "count", run.running_tokens)
            add(subject, "images kept", "count", run.kept_images)
            add(subject, "TTFT", "s", run.ttft)
            add(subject, "TTFT, CPU", "CPU s", run.ttft_cpu)
            add(subject, "answer", "s", run.answer)
            add(subject, "answer, CPU", "CPU s", run.answer_cpu)
            add(subject, "total", "s", run.seconds)
            add(subject, "total, CPU", "CPU s", run.cpu)
    for (subject, metric), found in values.items():
        value, base = fmean(found), fmean(values["independent", metric])
        rows.append(
            Row(
                case=case,
                subject=subject,
                metric=metric,
                value=round(value, 4),
                unit=units[metric],
                baseline="" if subject == "independent" else "independent",
                ratio=None if subject == "independent" else results.ratio(value, base, units[metric]),
                best=round(min(found), 4),
                repetitions=len(found),
                size="9B" if "9 B" in metric else "phone-tiny",
                threads=1,
                precision="bf16" if "9 B" in metric else "f32",
            )
        )
    return rows


def draw(result: Result, file: Path) -> None:
    """Bars of memory and latency, less is better; bytes depend on the result alone."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    found = {(row.subject, row.metric): row.value for row in result.rows}
    times = tuple(m for m in ("TTFT, CPU", "answer, CPU", "total, CPU") if (SUBJECTS[0], m) in found)
    panels = (
        ("memory at 9 B shapes, GB", ("memory kept, 9 B", "memory running, 9 B")),
        ("CPU s, small shapes", times),
    )
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for panel, (title, metrics) in zip(figure.subplots(1, 2), panels, strict=True):
        for index, subject in enumerate(SUBJECTS):
            values = [found[subject, metric] for metric in metrics]
            bars = panel.bar([at + (index - 0.5) * 0.38 for at in range(len(metrics))], values, 0.36, label=subject)
            less = [1 - found["shared", m] / found["independent", m] for m in metrics]
            labels = [f"{v:.2f}" + (f"\n−{share:.0%}" if index else "") for v, share in zip(values, less, strict=True)]
            panel.bar_label(bars, labels, fontsize="small")
        panel.set_xticks(range(len(metrics)), [m.partition(",")[0] for m in metrics])
        panel.set_title(title)
        panel.margins(y=0.2)
    figure.axes[0].legend(fontsize="small")
    with mpl.rc_context({"svg.hashsalt": "sharing"}):
        figure.savefig(file, metadata={"Date": None})


def main() -> int:
    """Measure, write, draw; status 1 if the two do not answer alike."""
    options = _arguments()
    script, sessions = (QUICK, 4) if options.quick else (FULL, SESSIONS)
    start = os.getloadavg()[0]
    checkpoint = kept(options.cache / "checkpoints" / "phone-tiny", make_phone_checkpoint)
    counts: dict[str, list[Count]] = {subject: [] for subject in SUBJECTS}
    for _ in range(options.repetitions):
        for subject in SUBJECTS:
            counts[subject].append(count(checkpoint, script, sessions, shared=subject == "shared"))
    size = Bytes.of_reference()
    alike = sum(
        a == b
        for one, other in zip(*counts.values(), strict=True)
        for a, b in zip(one.tokens, other.tokens, strict=True)
    )
    answers = sessions * script.steps * options.repetitions
    settings = {"script": str(script), "bytes at 9 B": str(size), "answers alike": f"{alike} of {answers}"}
    result = finished("sharing", rows_of(counts, size, f"{sessions} phones, {script.steps} steps"), settings, start)
    results.write(result, options.out)
    draw(result, options.plot)
    for row in result.rows:
        less = "" if row.ratio is None else f"{1 - 1 / row.ratio:.0%} less"
        print(f"{row.subject:12} {row.metric:20} {row.value:12.4f} {row.unit:6} {less}")
    print(result.settings)
    return int(alike != answers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 phones, short dialogues")
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--plot", type=Path, default=PLOT)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
