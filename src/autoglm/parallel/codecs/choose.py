"""Which form a sum travels in: by its size, and by what the link and the codec were measured to do.

A codec pays where bytes cost more than coding them: large messages on a slow link. Small messages are bound by latency
and go as they are. A lossy form is only ever chosen if the operator allowed it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from autoglm.errors import InvalidInputError
from autoglm.parallel.codecs.codes import INT4, INT8, Format
from autoglm.parallel.codecs.kernels import Kernels
from autoglm.parallel.codecs.two_step import BLOCKS, TwoStepSum
from autoglm.parallel.collectives import Communicator

Form = Literal["exact", "bf16", "int8", "int4"]
FORMS: tuple[Form, ...] = ("exact", "bf16", "int8", "int4")
"""From the most exact to the least."""
FORMATS: dict[Form, Format] = {"int8": INT8, "int4": INT4}
MARGIN = 1.25
"""A lossy form must be predicted to be this many times faster than the next more exact one."""
SMALLEST = 2**16
"""Bytes of float32: below, always exact. No link measured here made a codec pay under this."""
_PROBE_VALUES = 2**18


@dataclass(frozen=True, slots=True)
class LinkSpeed:
    """What was measured among the ranks of a group; the worst rank's numbers, the same on every rank.

    Attributes:
        bytes_per_second: each way, both ways busy.
        exact_floor, coded_floor: seconds of an exact and of a coded sum of a few bytes.
        code_seconds: seconds to code, add, and decode one float32 value (int8), all steps of a sum.
    """

    size: int
    bytes_per_second: float
    exact_floor: float
    coded_floor: float
    code_seconds: float


def predicted(link: LinkSpeed, nbytes: int, form: Form) -> float:
    """Seconds of a sum of ``nbytes`` bytes of float32 in ``form``.

    A coded sum hides all but one block of its coding behind the link, or the link behind the coding.
    """
    crossing = 2 * (link.size - 1) / link.size * nbytes / link.bytes_per_second
    if form == "exact":
        return link.exact_floor + crossing
    if form == "bf16":
        return link.exact_floor + crossing / 2
    transfer = crossing / FORMATS[form].ratio()
    coding = link.code_seconds * nbytes / 4
    return link.coded_floor + max(transfer, coding) + min(transfer, coding) / BLOCKS


def choose(link: LinkSpeed, nbytes: int, allowed: Form = "exact") -> Form:
    """The form of a message: the most exact one that no allowed form beats by :data:`MARGIN`."""
    if nbytes < SMALLEST:
        return "exact"
    best: Form = "exact"
    for form in FORMS[1 : FORMS.index(allowed) + 1]:
        if predicted(link, nbytes, form) * MARGIN < predicted(link, nbytes, best):
            best = form
    return best


def crossover(link: LinkSpeed, form: Form, highest: int = 2**30) -> int | None:
    """The smallest message (bytes of float32, a power of two) that goes in ``form`` or a less exact one if allowed."""
    size = SMALLEST
    while size <= highest:
        if FORMS.index(choose(link, size, form)) >= FORMS.index(form):
            return size
        size *= 2
    return None


def check_form(name: str) -> Form:
    """``name`` as a form; raises :class:`InvalidInputError` for another word."""
    for form in FORMS:
        if form == name:
            return form
    raise InvalidInputError(f"compression is one of {', '.join(FORMS)}, not {name!r}", field="compression", value=name)


def measure_link(group: Communicator, repetitions: int = 3) -> LinkSpeed:
    """Measure, in a few large messages; every rank calls this and gets the same numbers.

    The best repetition counts: what other work on the machine takes is not the link's doing.
    """
    kernels = Kernels(INT8)
    two_step = TwoStepSum(group, kernels)
    one_way = torch.zeros(4 * _PROBE_VALUES, dtype=torch.uint8)
    back = torch.empty_like(one_way)

    def exchange() -> None:
        handle = group.irecv(back, (group.rank - 1) % group.size)
        group.isend(one_way, (group.rank + 1) % group.size).wait()
        handle.wait()

    values = torch.randn(_PROBE_VALUES)
    coded = torch.empty(INT8.nbytes(_PROBE_VALUES), dtype=torch.uint8)

    def code() -> None:
        kernels.encode(values, 0, coded)
        kernels.reduce(values, [coded] * (group.size - 1), 0, coded.clone())
        kernels.decode(coded, 0, values)

    floors = [
        _best(group, lambda: group.all_reduce(torch.zeros(2)), repetitions),
        _best(group, lambda: two_step(torch.zeros(2 * INT8.group * group.size)), repetitions),
    ]
    taken = _best(group, exchange, repetitions)
    # Of a message, a rank codes all but its own part, adds up its part, and decodes all but its own: about one of each.
    measured = torch.tensor([taken, *floors, _best(group, code, repetitions)], dtype=torch.float64)
    worst = group.all_gather(measured[None], 0).amax(0).tolist()
    bandwidth = one_way.nbytes / max(worst[0] - worst[1] / 2, 1e-9)
    return LinkSpeed(group.size, bandwidth, worst[1], worst[2], worst[3] / _PROBE_VALUES)


def _best(group: Communicator, action: Callable[[], object], repetitions: int) -> float:
    action()
    best = float("inf")
    for _ in range(repetitions):
        group.barrier()
        started = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - started)
    return best
