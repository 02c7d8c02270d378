"""One rank of the compression benchmark: sums of one message in every form, timed in turns. Prints JSON (rank 0)."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.distributed as dist
from torch import Tensor

from autoglm.parallel.codecs.choose import FORMATS, FORMS, crossover, measure_link
from autoglm.parallel.codecs.codes import Format
from autoglm.parallel.codecs.kernels import Kernels
from autoglm.parallel.codecs.two_step import TwoStepSum
from autoglm.parallel.collectives import Communicator, TorchCommunicator
from autoglm.parallel.compressed import scales_of
from benchmarks.collectives import go_on

WIDTH = 512
OUTLIERS = 4
TOP_SHARE = 0.1
FEW = ("fp32", "bf16", "int8", "int4")
"""Methods of every size but the first."""

Method = Callable[[Tensor], Tensor]


def partial(rank: int, rows: int) -> Tensor:
    """A rank's share of a sum, with what makes activations hard to code: a few channels forty times as large as the
    others, tokens of unequal size. ``[rows, WIDTH]``, float32."""
    random = torch.Generator().manual_seed(rank)
    values = torch.randn(rows, WIDTH, generator=random)
    values *= torch.exp(0.5 * torch.randn(rows, 1, generator=torch.Generator().manual_seed(99)))
    values[:, :OUTLIERS] *= 40
    return values


def methods(group: Communicator, channel: Tensor) -> dict[str, Method]:
    """By name; each may write into its argument ``[rows, WIDTH]``."""
    found: dict[str, Method] = {
        "fp32": group.all_reduce,
        "bf16": lambda x: group.all_reduce(x.bfloat16()).float(),
    }
    for form, plain in FORMATS.items():
        for name, scales in ((form, channel), (f"{form}, no channel scales", None)):
            two_step = TwoStepSum(group, Kernels(Format(plain.bits, plain.group, scales)))
            found[name] = _of_rows(two_step)
    found["top 10 %"] = lambda x: top_share(group, x)
    return found


def _of_rows(two_step: TwoStepSum) -> Method:
    return lambda values: two_step(values.view(-1)).view(values.shape)


def top_share(group: Communicator, values: Tensor) -> Tensor:
    """An experiment: only the largest tenth of each rank's values is sent (index and bfloat16). What is left out is
    lost: unlike in training there is no next step to make up for it."""
    flat = values.view(-1)
    count = max(1, int(len(flat) * TOP_SHARE))
    index = flat.abs().topk(count, sorted=False).indices
    indices = group.all_gather(index.int()[None], 0)
    kept = group.all_gather(flat[index].bfloat16()[None], 0)
    total = torch.zeros_like(flat)
    for rank in range(group.size):
        total.index_add_(0, indices[rank].long(), kept[rank].float())
    return total.view(values.shape)


def measure(
    group: Communicator, rows: int, repetitions: int, seconds: float, names: list[str]
) -> dict[str, dict[str, object]]:
    """Seconds of every repetition, and the error against the sum in double precision.

    At least so many repetitions and so many seconds: where a sum takes few milliseconds, a handful would show what else
    the machine did in them.
    """
    mine = partial(group.rank, rows)
    partials = torch.stack([partial(rank, rows) for rank in range(group.size)]).double()
    exact = partials.sum(0)
    channel = scales_of(exact.abs().mean(0))
    chosen = {name: method for name, method in methods(group, channel).items() if name in names}
    times: dict[str, list[float]] = {name: [] for name in chosen}
    errors: dict[str, tuple[float, float]] = {}
    begun, turn = time.perf_counter(), 0
    while turn <= repetitions or go_on(group, time.perf_counter() - begun < seconds):
        for name, method in chosen.items():
            values = mine.clone()
            group.barrier()
            started = time.perf_counter()
            total = method(values)
            taken = time.perf_counter() - started
            if turn:
                times[name].append(taken)
            else:
                wrong = total.double() - exact
                ordinary = slice(OUTLIERS, None)
                errors[name] = (
                    float(wrong.norm() / exact.norm()),
                    float(wrong[:, ordinary].norm() / exact[:, ordinary].norm()),
                )
        turn += 1
    return {name: {"seconds": times[name], "error": errors[name][0], "ordinary": errors[name][1]} for name in chosen}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", required=True, help="of messages; the first with every method")
    parser.add_argument("--repetitions", type=int, default=3, help="of a size at least (default: 3)")
    parser.add_argument("--seconds", type=float, default=0.0, help="of a size at least (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    group = TorchCommunicator(dist.group.WORLD)
    link = measure_link(group)
    found = {}
    everything = list(methods(group, torch.ones(WIDTH)))
    for i, rows in enumerate(options.rows):
        names = everything if i == 0 else list(FEW)
        found[rows] = measure(group, rows, options.repetitions, options.seconds, names)
    if group.rank == 0:
        crossovers = {form: crossover(link, form) for form in FORMS[1:]}
        print(json.dumps({"link": asdict(link), "crossover": crossovers, "rows": found}), flush=True)
    group.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
