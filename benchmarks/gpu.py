"""Both layouts at 9 B shapes on a CUDA device: first token, time per token, shares of the device's own ceilings.

    python -m benchmarks.gpu                     random bf16 weights, 1080x2400 screenshots, batches of 1, 8 and 32
    python -m benchmarks.gpu --subjects autoglm  without the forms in which one part is off
    python -m benchmarks.gpu --table docs/gpu.md only writes the table of the result into that page
    python -m benchmarks.gpu --smoke             the same code on the CPU: tiny shapes, small pictures

TTFT runs from the PNG's bytes to the first token, decoding and processing included. TPOT is the median of the steps in
which every request of the batch got one token; there are no drafts. Ceilings are measured before: a large copy, and a
large product of the same type. `transformers` gets the same prompts, already processed, in the layout it knows.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import torch
from PIL import Image

from autoglm.engine import Engine, EngineConfig
from autoglm.errors import AutoGLMError, InvalidInputError
from autoglm.messages import ChatMessage, Failed, ImagePart, Output, SamplingParams, Submit, TextPart
from autoglm.model.quantized.linear import quantize
from autoglm.model.registry import Model
from autoglm.prompt import Prompt
from benchmarks import results
from benchmarks.gpu_models import (
    LAYOUTS,
    bytes_of_a_step,
    engine_of,
    operations_of_a_prompt,
    random_model,
    write_model_config,
    write_prompt_parts,
)
from benchmarks.gpu_peer import Peer, synchronize
from benchmarks.results import Failure, Load, Result, Row
from benchmarks.rows import add_table_option, wrote_table

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "gpu.json"
PEER, ALL_ON = "transformers", "autoglm"
FORMS: dict[str, dict[str, Any]] = {
    ALL_ON: {},
    "autoglm, steps not recorded": {"decode_graphs": "off", "encoder_graphs": 0},
    "autoglm, keys gathered": {"paged_attention": "gather"},
    "autoglm, layers not fused": {"fused_layers": False},
    "autoglm, fp8": {"quantization": "fp8"},
    "autoglm, fp8 by torch": {"quantization": "fp8", "packed_kernels": False},
    "autoglm, int4": {"quantization": "int4"},
}
"""What is measured of our engine: everything on, each part off, and packed weights."""
_PEER_TOKENS = 33
"""Of the baseline, whose tokens take their time and vary little."""
TTFT, BUILD = "TTFT of a screenshot", "its part on the host"
_TEXT = "open the shop and look for a blue lamp. " * 12


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. ``screen``: width and height in pixels. ``side``: of the ceilings' square matrices."""

    device: torch.device
    dtype: torch.dtype
    smoke: bool
    screen: tuple[int, int]
    batches: tuple[int, ...]
    new_tokens: int
    repetitions: int
    side: int

    @property
    def size(self) -> str:
        return "tiny" if self.smoke else "9b"


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Of this device, measured: bytes read and written, and operations of a product, a second."""

    bandwidth: float
    operations: float


def plan_of(options: argparse.Namespace) -> Plan:
    """The full plan on CUDA, or the small one on the CPU.

    Raises:
        InvalidInputError: there is no CUDA device, and no ``--smoke``.
    """
    if options.smoke:
        return Plan(torch.device("cpu"), torch.float32, True, (112, 168), (1, 2), 8, 1, 256)
    if not torch.cuda.is_available():
        raise InvalidInputError(
            "this benchmark needs a CUDA device; --smoke runs its code on the CPU at tiny shapes",
            field="device",
            limit="cuda",
            value="cpu",
        )
    batches = tuple(options.batches)
    return Plan(torch.device("cuda"), torch.bfloat16, False, (1080, 2400), batches, 128, options.repetitions, 8192)


def ceilings(plan: Plan) -> Ceilings:
    """By the quickest of some copies and products."""
    a = torch.randn(plan.side, plan.side, device=plan.device).to(plan.dtype)
    b, source = torch.empty_like(a), a.repeat(8, 1)
    target = torch.empty_like(source)
    copy = min(_timed(plan.device, lambda: target.copy_(source)) for _ in range(8))
    product = min(_timed(plan.device, lambda: torch.mm(a, a, out=b)) for _ in range(8))
    return Ceilings(2 * source.nbytes / copy, 2.0 * plan.side**3 / product)


def _timed(device: torch.device, job: Any) -> float:
    synchronize(device)
    start = time.perf_counter()
    job()
    synchronize(device)
    return time.perf_counter() - start


def screenshot(size: tuple[int, int], seed: int) -> bytes:
    """A PNG that no other seed makes: squares of 8 pixels, of random colours."""
    noise = torch.Generator().manual_seed(seed)
    small = torch.randint(0, 256, (size[1] // 8, size[0] // 8, 3), generator=noise, dtype=torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small.numpy()).resize(size, Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def question(plan: Plan, seed: int, *, image: bool) -> list[ChatMessage]:
    """A user's turn that begins as no other does."""
    text = TextPart(f"{seed}: {_TEXT}")
    return [ChatMessage("user", [ImagePart(screenshot(plan.screen, seed)), text] if image else [text])]


def ask(engine: Engine, questions: list[list[ChatMessage]], new_tokens: int) -> tuple[float, list[float]]:
    """Seconds to the last request's first token, and of each later step in which all requests got one token."""
    sampling = SamplingParams(temperature=0.0, max_tokens=new_tokens, ignore_eos=True)
    start = last = time.perf_counter()
    for number, messages in enumerate(questions):
        engine.submit(Submit(id=str(number), messages=messages, sampling=sampling))
    begun: set[str] = set()
    first, steps = 0.0, []
    while engine.has_work:
        if not engine.can_step:
            time.sleep(0.0002)
            continue
        events = engine.step()
        for event in events:
            if isinstance(event, Failed):
                raise RuntimeError(event.error.message)
        tokens = [e.id for e in events if isinstance(e, Output) and e.token_ids]
        now = time.perf_counter()
        if len(begun) == len(questions) and len(set(tokens)) == len(questions):
            steps.append(now - last)
        begun.update(tokens)
        if len(begun) == len(questions) and not first:
            first = now - start
        last = now
    if new_tokens > 1 and not steps:
        raise RuntimeError(f"{len(questions)} requests of {new_tokens} tokens never ran in one step")
    return first, steps


def measure_layout(
    plan: Plan, folder: Path, layout: str, forms: Mapping[str, EngineConfig], found: Ceilings
) -> list[Row]:
    """All rows of one layout, whose configuration is in ``folder``; the baseline's, where it knows the layout.

    Args:
        forms: what is measured, by name; those of one packing one after the other, for they share the weights.
    """
    model: Model | None = None
    packed = "none"
    measured: dict[str, dict[str, list[float]]] = {}
    shares: list[Row] = []
    for name, config in forms.items():
        if model is None or config.quantization != packed:
            model = None  # before the next one is made
            _free(plan.device)
            model, packed = random_model(folder, plan.dtype, plan.device), config.quantization
            if packed != "none":
                quantize(model, packed, plan.device)
        engine = engine_of(model, folder, config)
        try:
            prompt = engine.prompts.build(question(plan, 0, image=True))
            text = engine.prompts.build(question(plan, 0, image=False))
            measured[name] = _ours(plan, layout, engine)
        finally:
            engine.close()
        del engine
        _free(plan.device)
        row = _row(plan, name, config)
        shares += _shares(plan, model, row, layout, measured[name], (prompt, text), found)
    del model
    _free(plan.device)
    theirs = _theirs(plan, Peer(folder, plan.dtype, plan.device), prompt, text) if layout == "glm4v" else {}
    _free(plan.device)
    rows: list[Row] = []
    for name, config in forms.items():
        baseline, against = (PEER, theirs) if name == ALL_ON else (ALL_ON, measured.get(ALL_ON, {}))
        row = _row(plan, name, config)
        rows += [_time(row, f"{layout} {c}", times, baseline, against.get(c)) for c, times in measured[name].items()]
    peer = _row(plan, PEER, EngineConfig())
    return rows + [_time(peer, f"{layout} {c}", times, "", None) for c, times in theirs.items()] + shares


def _row(plan: Plan, subject: str, config: EngineConfig) -> Any:
    precision = config.quantization if config.quantization != "none" else str(plan.dtype).removeprefix("torch.")
    return partial(Row, subject=subject, size=plan.size, threads=torch.get_num_threads(), precision=precision)


def _shares(
    plan: Plan,
    model: Model,
    row: Any,
    layout: str,
    times: Mapping[str, list[float]],
    prompts: tuple[Prompt, Prompt],
    found: Ceilings,
) -> list[Row]:
    """Of what the device could do at most, had it nothing else to do."""
    prompt, text = prompts
    work = operations_of_a_prompt(model, len(prompt.token_ids), _patches(prompt))
    values = {TTFT: ("operations", work / found.operations / median(times[TTFT]))}
    for rows in plan.batches:
        size = bytes_of_a_step(model, rows, len(text.token_ids) + plan.new_tokens // 2)
        values[_case(rows)] = ("bandwidth", size / found.bandwidth / median(times[_case(rows)]))
    made = partial(row, unit="share", baseline="", ratio=None, repetitions=plan.repetitions)
    return [
        made(case=f"{layout} {case}", metric=f"share of {of}", value=share, best=share)
        for case, (of, share) in values.items()
    ]


def _case(rows: int) -> str:
    return f"TPOT of {rows}"


def _ours(plan: Plan, layout: str, engine: Engine) -> dict[str, list[float]]:
    """Seconds by case. The first runs compile and record, and do not count."""
    image = layout == "autoglm_phone"  # there every step reads the screenshot
    times: dict[str, list[float]] = {TTFT: [], BUILD: []}
    for repetition in range(-2, plan.repetitions):
        asked = question(plan, 100 + repetition, image=True)
        first, _ = ask(engine, [asked], 1)
        begun = time.perf_counter()
        engine.prompts.build(asked)
        times[BUILD].append(time.perf_counter() - begun)
        times[TTFT] += [first] if repetition >= 0 else []
    for rows in plan.batches:
        ask(engine, [question(plan, 1000 + n, image=image) for n in range(rows)], plan.new_tokens)
        _, steps = ask(engine, [question(plan, 2000 + n, image=image) for n in range(rows)], plan.new_tokens)
        times[_case(rows)] = steps
    return times


def _theirs(plan: Plan, peer: Peer, prompt: Prompt, text: Prompt) -> dict[str, list[float]]:
    peer.seconds(prompt, 1, 1)
    times = {TTFT: [peer.seconds(prompt, 1, 1) for _ in range(plan.repetitions)]}
    for rows in plan.batches:
        peer.seconds(text, rows, 2)
        tokens = min(plan.new_tokens, _PEER_TOKENS)
        one, many = peer.seconds(text, rows, 1), peer.seconds(text, rows, tokens)
        times[_case(rows)] = [max(many - one, 1e-9) / (tokens - 1)]
    return times


def _time(row: Any, case: str, times: list[float], baseline: str, against: list[float] | None) -> Row:
    value = median(times) * 1e3
    made: Row = row(
        case=case,
        metric="latency",
        unit="ms",
        value=value,
        best=min(times) * 1e3,
        baseline="" if against is None else baseline,
        ratio=None if against is None else results.ratio(value, median(against) * 1e3, "ms"),
        repetitions=len(times),
    )
    return made


def _patches(prompt: Prompt) -> int:
    return sum(t * h * w for t, h, w in (placed.image.grid for placed in prompt.images))


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _measure(
    options: argparse.Namespace, plan: Plan, forms: Mapping[str, EngineConfig], found: Ceilings
) -> tuple[list[Row], list[Failure]]:
    rows: list[Row] = []
    failures: list[Failure] = []
    failure = partial(Failure, subject="autoglm", size=plan.size, threads=torch.get_num_threads())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = write_prompt_parts(folder, options.tokenizer)
        for layout in options.layouts:
            write_model_config(folder, layout, ids, smoke=plan.smoke)
            try:
                rows += measure_layout(plan, folder, layout, forms, found)
            except (AutoGLMError, RuntimeError) as error:
                failures.append(failure(case=layout, reason=str(error)))
    return rows, failures


def run(options: argparse.Namespace) -> Result:
    """Measure what was asked for. A layout that fails is named in the result; the other is measured all the same."""
    plan = plan_of(options)
    config = EngineConfig(
        device=plan.device.type,
        max_running=max(plan.batches),
        native_decode=False,
        decode_graphs="eager" if plan.smoke else "auto",
        kv_cache_bytes=16 * 2**20 if plan.smoke else None,
        max_batch_tokens=1024 if plan.smoke else 8192,
    )
    forms = {name: msgspec.structs.replace(config, **FORMS[name]) for name in FORMS if name in options.subjects}
    start = os.getloadavg()[0]
    found = ceilings(plan)
    rows, failures = _measure(options, plan, forms, found)
    end = os.getloadavg()[0]
    card = torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else "CPU"
    return Result(
        name="gpu",
        date=results.now(),
        commit=results.commit(ROOT),
        machine=results.machine(),
        load=Load(start=start, end=end, highest=max(start, end)),
        versions={name: version(name) for name in ("torch", "transformers", "triton")}
        | {"cuda": str(torch.version.cuda)},
        settings={
            "device": card,
            "screen": "x".join(map(str, plan.screen)),
            "bandwidth": f"{found.bandwidth / 1e9:.1f} GB/s",
            "operations": f"{found.operations / 1e12:.3f} TFLOP/s",
        },
        rows=rows,
        failures=failures,
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure and write the result; status 1 if a layout failed, 2 if there is no device."""
    options = _arguments(arguments)
    if wrote_table(options, "gpu"):
        return 0
    try:
        result = run(options)
    except InvalidInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results.write(result, options.out)
    for row in result.rows:
        print(f"{row.case}, {row.subject}, {row.metric}: {row.value:.3f} {row.unit}")
    for failure in result.failures:
        print(f"{failure.case} failed: {failure.reason}", file=sys.stderr)
    return 1 if result.failures else 0


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="on the CPU, at tiny shapes")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--subjects", nargs="+", choices=FORMS, default=list(FORMS), help="forms of our engine")
    parser.add_argument("--tokenizer", type=Path, help="folder of a synthetic checkpoint; default: one made now")
    parser.add_argument("--out", type=Path, default=RESULT)
    add_table_option(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
