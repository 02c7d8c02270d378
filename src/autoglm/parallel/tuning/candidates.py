"""What can be measured: ways to divide the work of one replica over a machine."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from msgspec import Struct


class Candidate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, order=True):
    """One way to run, on one size of data.

    Attributes:
        threads: of each rank.
        tensor_parallel, pipeline_parallel: ranks that share every layer; stages.
        micro_batches: parts of a step that are under way in the stages at once.
        data_size: requests at once, or items of the plain reduction.
    """

    threads: int = 1
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    micro_batches: int = 1
    data_size: int = 1

    @property
    def workers(self) -> int:
        """Threads over all ranks: what competes for cores."""
        return self.threads * self.tensor_parallel * self.pipeline_parallel

    @property
    def way(self) -> tuple[int, int, int, int]:
        """The candidate without its data size."""
        return self.threads, self.tensor_parallel, self.pipeline_parallel, self.micro_batches


def grid(
    *,
    threads: Iterable[int],
    tensor_parallel: Iterable[int] = (1,),
    pipeline_parallel: Iterable[int] = (1,),
    micro_batches: Iterable[int] = (1,),
    data_sizes: Iterable[int] = (1,),
    most_workers: int,
) -> list[Candidate]:
    """All combinations of at most ``most_workers`` workers, fewest workers first: if time runs out, what is left out is
    what is least likely to be the best.

    Micro-batches only mean something with more than one stage.
    """
    found = {
        Candidate(threads=t, tensor_parallel=tp, pipeline_parallel=pp, micro_batches=m, data_size=size)
        for t, tp, pp, m, size in product(threads, tensor_parallel, pipeline_parallel, micro_batches, data_sizes)
        if m == 1 or pp > 1
    }
    return sorted((c for c in found if c.workers <= most_workers), key=lambda c: (c.workers, c))


def powers_up_to(limit: int) -> list[int]:
    """1, 2, 4, … and ``limit`` itself, and one step beyond: a curve shows its top only if something comes after it."""
    found = [1]
    while found[-1] * 2 < limit:
        found.append(found[-1] * 2)
    return sorted({*found, limit, 2 * limit})
