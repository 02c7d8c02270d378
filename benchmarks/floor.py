"""The floor that memory sets for decoding: every weight of the decoder is read once per token at batch 1.

Run as a script it prints the best read bandwidth of this machine in bytes per second, with the threads that
`OMP_NUM_THREADS` allows. Measured in the same run as the subjects, since neighbours on the machine change it.
"""

from __future__ import annotations

import math
import mmap
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.process import environment

F32_BYTES = 4


def read_bandwidth(threads: int, megabytes: int = 384, tries: int = 12) -> float:
    """Bytes per second, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.floor", str(megabytes), str(tries)]
    done = subprocess.run(command, env=environment(threads), capture_output=True, text=True, check=True)
    return float(done.stdout)


def decode_weight_bytes(checkpoint: Path) -> int:
    """f32 bytes read per decoded token: all tensors but the vision tower and the input embedding."""
    return sum(head_and_layer_weights(checkpoint)) * F32_BYTES


def head_and_layer_weights(checkpoint: Path) -> tuple[int, int]:
    """Numbers read per decoded token: the head's, and all others'."""
    from safetensors import safe_open

    head = layers = 0
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                count = math.prod(tensors.get_slice(name).get_shape())
                if name.startswith("lm_head"):
                    head += count
                elif ".visual." not in name and "embed_tokens" not in name:
                    layers += count
    if not layers:
        raise FileNotFoundError(f"no decoder weights in {checkpoint}")
    return head, layers


def _measure(megabytes: int, tries: int) -> float:
    import torch

    # A matrix-vector product is how decoding reads weights; the vector stays in the cache. Huge pages where there are
    # any, as for the weights: the bound must not be lower than what a subject can reach.
    columns = 4096
    memory = mmap.mmap(-1, megabytes * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    matrix = torch.frombuffer(memory, dtype=torch.float32).fill_(1.0).view(-1, columns)
    vector = torch.ones(columns)
    best = math.inf
    for _ in range(tries):
        start = time.perf_counter()
        torch.mv(matrix, vector)
        best = min(best, time.perf_counter() - start)
        start = time.perf_counter()
        matrix.sum()
        best = min(best, time.perf_counter() - start)
    return matrix.nbytes / best


if __name__ == "__main__":
    print(_measure(int(sys.argv[1]), int(sys.argv[2])))
