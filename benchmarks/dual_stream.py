"""Both encoders of the `autoglm_phone` layout at once: beside the slower stream, and beside their sum.

    python -m benchmarks.dual_stream              576 visual tokens, 512 text tokens, 7 repetitions
    python -m benchmarks.dual_stream --quick      narrow widths, 3 repetitions

Each stream alone, one after the other, and side by side take turns. Torch gives each stream `--threads` of its own:
with one thread a stream, side by side uses two cores. Random weights; the time does not depend on them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from autoglm.engine.encoder import Encode
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.autoglm_phone.config import AutoGLMPhoneConfig, FusionConfig, PhoneTextConfig, PhoneVisionConfig
from autoglm.model.context import ForwardContext, KVStore, SequenceSlice
from autoglm.model.initialise import initialise
from benchmarks import results
from benchmarks.results import Load, Result, Row

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "dual_stream.json"
TEXT_TOKENS = 512
BASELINE = "one after the other"
_GRID = (24, 24)  # 576 tokens, one of each patch


def main() -> int:
    """Measure and write the result; status 0."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    size, repetitions = ("narrow", 3) if options.quick else ("wide", options.repetitions)
    start = os.getloadavg()[0]
    jobs = jobs_of(_model(size))
    samples: dict[str, list[float]] = {name: [] for name in jobs}
    with torch.inference_mode():
        for repetition in range(repetitions + 1):
            for name, job in jobs.items():
                begun = time.perf_counter()
                job()
                if repetition:  # the first is to warm up
                    samples[name].append((time.perf_counter() - begun) * 1000)
    end = os.getloadavg()[0]
    result = Result(
        name="dual_stream",
        date=results.now(),
        commit=results.commit(ROOT),
        machine=results.machine(),
        load=Load(start=start, end=end, highest=max(start, end)),
        versions={"torch": str(torch.__version__)},
        settings={"text_tokens": str(TEXT_TOKENS), "visual_tokens": str(_GRID[0] * _GRID[1])},
        rows=rows_of(samples, size, options.threads),
        failures=[],
    )
    results.write(result, options.out)
    for row in result.rows:
        print(f"{row.subject}: {row.value:.2f} {row.unit}")
    return 0


def rows_of(samples: dict[str, list[float]], size: str, threads: int) -> list[Row]:
    """Latency of each, and side by side as a share of the sum, and of the slower stream."""
    middle = {name: median(values) for name, values in samples.items()}
    row = partial(Row, case="dual stream", size=size, threads=threads, repetitions=len(samples[BASELINE]))
    rows = [
        row(
            subject=name,
            metric="latency",
            value=round(value, 3),
            unit="ms",
            best=round(min(samples[name]), 3),
            baseline="" if name == BASELINE else BASELINE,
            ratio=None if name == BASELINE else results.ratio(value, middle[BASELINE], "ms"),
        )
        for name, value in middle.items()
    ]
    both, image, text = middle["side by side"], middle["image alone"], middle["text alone"]
    for metric, other in (("share of the sum", image + text), ("share of the slower", max(image, text))):
        share = round(both / other, 4)
        rows.append(
            row(subject="side by side", metric=metric, value=share, unit="share", best=share, baseline="", ratio=None)
        )
    return rows


def jobs_of(model: AutoGLMPhoneModel, encode: Encode | None = None) -> dict[str, Callable[[], object]]:
    """Each stream alone, one after the other, and side by side, on the model's device; ``encode``: the image stream,
    if not the model's own way."""
    generator = torch.Generator().manual_seed(1)
    patch, device = model.config.vision.patch_size, model.device
    pixels = [torch.randn(3, _GRID[0] * patch, _GRID[1] * patch, generator=generator).to(device)]
    grids = [(1, *_GRID)]
    kv = KVStore(model.kv_spec, TEXT_TOKENS, device)
    positions, _ = model.rope_positions(TEXT_TOKENS, [])
    whole = SequenceSlice(0, TEXT_TOKENS, TEXT_TOKENS, None, 0)
    context = ForwardContext(positions.to(device), torch.arange(TEXT_TOKENS, device=device), [whole], kv)
    ids = torch.randint(0, model.vocab_size, (TEXT_TOKENS,), generator=generator)
    hidden = model.embed_tokens(ids.to(device))
    image = partial(encode or model.encode_images, pixels, grids)
    return {
        "image alone": image,
        "text alone": partial(model.text_stream, hidden, context),
        BASELINE: partial(model.run_streams, image, hidden, context, parallel=False),
        "side by side": partial(model.run_streams, image, hidden, context, parallel=True),
    }


def _model(size: str) -> AutoGLMPhoneModel:
    """Half of the decoder's layers stand before the first fusion, as in the 9 B model."""
    width, layers, depth, feed = (128, 4, 2, 256) if size == "narrow" else (768, 12, 8, 2560)
    heads = width // 64
    text = PhoneTextConfig(
        vocab_size=8192,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=1,
        head_dim=64,
        intermediate_size=feed,
    )
    vision = PhoneVisionConfig(hidden_size=width // 2, depth=depth, num_heads=heads, intermediate_size=feed // 2)
    fusion = FusionConfig(
        layers=tuple(range(layers // 2, layers, 2)), num_heads=heads, num_kv_heads=1, head_dim=64, gate_rank=16
    )
    config = AutoGLMPhoneConfig(
        text=text, vision=vision, fusion=fusion, image_token_id=1, turn_start_token_ids=(2,), stop_token_ids=(3,)
    )
    model = AutoGLMPhoneModel(config).eval().requires_grad_(False)
    initialise(model, 0)
    return model


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="narrow widths, 3 repetitions")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of each stream")
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
