"""Sums among the ranks of one host: shared memory beside gloo, in turns; and what grouping of small messages saves.

    python -m benchmarks.collectives                          two ranks, 8 B to 16 MiB; under two minutes
    python -m benchmarks.collectives --table docs/parallel.md    only writes the table of the result into that page

Best and median of all repetitions of both ranks' slower one: a sum is over when the last rank has it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from autoglm.parallel.collectives import Communicator, TorchCommunicator
from autoglm.parallel.grouping import all_reduce_grouped
from autoglm.parallel.shm import SharedMemoryCommunicator, open_shared_memory
from benchmarks import results
from benchmarks.results import Result, Row
from benchmarks.rows import RESULTS, add_table_option, finished, row, table, wrote_table

RESULT = RESULTS / "collectives.json"
SIZES = (8, 1024, 8192, 65536, 2**20, 2**24)
_MICRO = 1e6
_GROUP = 8


def main() -> int:
    """Measure and write the result, or write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="bytes of float32")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each size and subject (default: 3)")
    parser.add_argument("--out", type=Path, default=RESULT)
    add_table_option(parser)
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        return _rank(options.sizes, options.seconds)
    if wrote_table(options, "collectives"):
        return 0
    result = run(options.ranks, options.sizes, options.seconds)
    results.write(result, options.out)
    print(table(result))
    return 0


def run(ranks: int, sizes: list[int], seconds: float) -> Result:
    """Start the ranks, and make rows of what rank 0 prints."""
    load = os.getloadavg()[0]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    ours = ["-m", "benchmarks.collectives", "--rank", "--seconds", str(seconds), "--sizes", *map(str, sizes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*command, *ours], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    rows: list[Row] = []
    for name, subjects in found.items():
        base = subjects["gloo"]
        for subject, times in subjects.items():
            size = f"{ranks} ranks"
            if subject == "gloo":
                rows.append(row(name, subject, "time", times, "us", size=size))
            else:
                rows.append(row(name, subject, "time", times, "us", baseline="gloo", against=base, size=size))
    return finished("collectives", rows, {"seconds": str(seconds), "ranks": str(ranks)}, load)


def _rank(sizes: list[int], seconds: float) -> int:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    gloo = TorchCommunicator(dist.group.WORLD)
    shm = open_shared_memory(gloo)
    if not isinstance(shm, SharedMemoryCommunicator):
        raise SystemExit("no shared memory here, or the compiled library is missing")
    found: dict[str, dict[str, list[float]]] = {}
    for size in sizes:
        tensor = torch.zeros(max(1, size // 4))
        actions = {name: _sum_of(group, tensor) for name, group in (("gloo", gloo), ("shared memory", shm))}
        found[f"sum of {_words(size)}"] = _in_turns(shm, actions, seconds)
    small = [torch.zeros(256) for _ in range(_GROUP)]
    actions = {
        "gloo": lambda: [gloo.all_reduce(t) for t in small],
        "gloo, grouped": lambda: all_reduce_grouped(gloo, small),
    }
    found[f"{_GROUP} sums of 1 KiB"] = _in_turns(shm, actions, seconds)
    if gloo.rank == 0:
        print(json.dumps(found), flush=True)
    shm.barrier()
    dist.destroy_process_group()
    return 0


def _sum_of(group: Communicator, tensor: Tensor) -> Callable[[], object]:
    return lambda: group.all_reduce(tensor)


def _in_turns(shm: Communicator, actions: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Microseconds of every repetition, a block of each subject in turn until the time is over.

    Ranks meet before every repetition over shared memory, in a few microseconds; the time is the slower rank's.
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action()
    started = time.perf_counter()
    while go_on(shm, time.perf_counter() - started < seconds * len(actions)):
        for name, action in actions.items():
            block = []
            for _ in range(10):
                shm.barrier()
                begun = time.perf_counter()
                action()
                block.append(time.perf_counter() - begun)
            slower = shm.all_gather(torch.tensor(block, dtype=torch.float64)[None], 0).amax(0)
            times[name] += (slower * _MICRO).tolist()
    return times


def go_on(group: Communicator, mine: bool) -> bool:
    """Whether all ranks go on; rank 0 decides."""
    return bool(group.broadcast(torch.tensor([mine], dtype=torch.uint8)).item())


def _words(size: int) -> str:
    for unit, factor in (("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size // factor} {unit}"
    return f"{size} B"


if __name__ == "__main__":
    sys.exit(main())
