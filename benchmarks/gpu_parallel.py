"""Parallel computation's parts on one CUDA device: the 8-bit codec's kernels, NCCL, and both streams of a step.

    python -m benchmarks.gpu_parallel            writes benchmarks/results/gpu_parallel.json
    python -m benchmarks.gpu_parallel --table docs/gpu.md    only writes the table of the result into that page

The codec beside the same mathematics by torch's operations, in bytes read and written a second, and as a share of a
large copy; sums of one rank over NCCL: what a call costs before any byte travels; image stream and text stream of the
described layout at 9 B shapes, one after the other and on two streams.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.cuda.encoder import RecordedEncoder
from autoglm.model.cuda.layers import fuse
from autoglm.model.cuda.recording import CudaGraphs
from autoglm.parallel.codecs import codes, triton_kernels
from autoglm.parallel.codecs.codes import INT8
from autoglm.parallel.collectives import TorchCommunicator
from benchmarks import dual_stream, results
from benchmarks.gpu_models import random_model, write_model_config, write_prompt_parts
from benchmarks.results import Row
from benchmarks.rows import RESULTS, add_table_option, finished, row, wrote_table

RESULT = RESULTS / "gpu_parallel.json"
VALUES = (2**20, 2**24, 2**28)
SUM_BYTES = (8192, 2**20, 2**26)
_TORCH, _KERNELS = "torch operations", "Triton kernels"


def main() -> int:
    """Measure and write the result; status 2 if there is no device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULT)
    add_table_option(parser)
    options = parser.parse_args()
    if wrote_table(options, "gpu_parallel"):
        return 0
    if not torch.cuda.is_available():
        print("error: this benchmark needs a CUDA device", file=sys.stderr)
        return 2
    load = os.getloadavg()[0]
    rows = [*codec_rows(options.repetitions), *sum_rows(options.repetitions), *stream_rows(options.repetitions)]
    settings = {"device": torch.cuda.get_device_name(), "repetitions": str(options.repetitions)}
    results.write(finished("gpu_parallel", rows, settings, load), options.out)
    for one in rows:
        print(f"{one.case}, {one.subject}, {one.metric}: {one.value:.4g} {one.unit} ({one.ratio})")
    return 0


def codec_rows(repetitions: int) -> list[Row]:
    """GB/s of values and codes together.

    Raises:
        RuntimeError: the kernels' codes are not those of the reference.
    """
    copied = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(copied)
    copy = 2 * copied.nbytes / median(_seconds(lambda: target.copy_(copied), repetitions)) / 1e9
    rows: list[Row] = []
    for count in VALUES:
        x = torch.randn(count, device="cuda")
        coded = triton_kernels.encode(INT8, x)
        if not torch.equal(coded[:65536].cpu(), codes.encode(INT8, x[:65536].cpu())[:65536]):
            raise RuntimeError(f"codes of {count} values are not the reference's")
        groups = x.view(-1, INT8.group)
        parts = coded[:count].view(torch.int8).view(groups.shape), coded[count:].view(torch.int16)
        total = x.clone()
        jobs: dict[str, dict[str, Callable[[], object]]] = {
            "encode": {
                _TORCH: lambda g=groups: triton_kernels.encode_groups(g),  # type: ignore[misc]
                _KERNELS: lambda v=x: triton_kernels.encode(INT8, v),  # type: ignore[misc]
            },
            "decode and add": {
                _TORCH: lambda p=parts, t=total: t.add_(triton_kernels.decode_groups(*p).view(-1)),  # type: ignore[misc]
                _KERNELS: lambda c=coded, n=count, t=total: triton_kernels.decode(INT8, c, n, t),  # type: ignore[misc]
            },
        }
        for name, subjects in jobs.items():
            moved = (x.nbytes + coded.nbytes) if name == "encode" else (2 * x.nbytes + coded.nbytes)
            rates = {s: [moved / t / 1e9 for t in _seconds(job, repetitions)] for s, job in subjects.items()}
            case = f"{name} {count // 2**20} Mi values"
            rows.append(row(case, _TORCH, "rate", rates[_TORCH], "GB/s"))
            rows.append(row(case, _KERNELS, "rate", rates[_KERNELS], "GB/s", baseline=_TORCH, against=rates[_TORCH]))
            rows.append(row(case, _KERNELS, "share of a copy", [r / copy for r in rates[_KERNELS]], "share"))
    return rows


def sum_rows(repetitions: int) -> list[Row]:
    """Microseconds of a sum of one rank."""
    dist.init_process_group("nccl", store=HashStore(), rank=0, world_size=1, device_id=torch.device("cuda:0"))
    try:
        group = TorchCommunicator(dist.group.WORLD)
        rows: list[Row] = []
        for size in SUM_BYTES:
            tensor = torch.ones(size // 4, device="cuda")
            expected = tensor.clone()
            times = _seconds(lambda t=tensor: group.all_reduce(t), repetitions)  # type: ignore[misc]
            if not torch.equal(tensor, expected):
                raise RuntimeError("a sum of one rank changed its value")
            micro = [t * 1e6 for t in times]
            rows.append(row(f"sum of {size // 1024} KiB, one rank", "NCCL", "latency", micro, "us"))
        gathered = group.all_gather(torch.arange(4, device="cuda"))
        if gathered.tolist() != [0, 1, 2, 3]:
            raise RuntimeError("one rank did not gather its own values")
        return rows
    finally:
        dist.destroy_process_group()


def stream_rows(repetitions: int) -> list[Row]:
    """Milliseconds of both encoders, as :mod:`benchmarks.dual_stream` on the CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model_config(folder, "autoglm_phone", write_prompt_parts(folder, None), smoke=False)
        model = random_model(folder, torch.bfloat16, torch.device("cuda"))
    if not isinstance(model, AutoGLMPhoneModel):
        raise TypeError(f"the described layout is {type(model).__name__}")
    fuse(model)
    encoder = RecordedEncoder(model, CudaGraphs(model.device), 1, 2**30)
    jobs = dual_stream.jobs_of(model, encoder.encode)
    samples: dict[str, list[float]] = {subject: [] for subject in jobs}
    with torch.inference_mode():
        for repetition in range(-2, repetitions):  # in turns; the first two record and compile
            for subject, job in jobs.items():
                found = _seconds(job, 1, warm=0)
                samples[subject] += [found[0] * 1e3] if repetition >= 0 else []
    return dual_stream.rows_of(samples, "9b", torch.get_num_threads())


def _seconds(job: Callable[[], object], repetitions: int, warm: int = 2) -> list[float]:
    """Of each repetition, the wait for the device included; the first ``warm`` compile and do not count."""
    times = []
    for repetition in range(-warm, repetitions):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        job()
        torch.cuda.synchronize()
        times += [time.perf_counter() - begun] if repetition >= 0 else []
    return times


if __name__ == "__main__":
    sys.exit(main())
