"""The fastest way between given ranks: shared memory within a host, two levels over hosts, a codec where allowed."""

from __future__ import annotations

import logging

from autoglm.parallel.codecs.choose import Form
from autoglm.parallel.collectives import Communicator, TorchCommunicator
from autoglm.parallel.compressed import CompressedCommunicator
from autoglm.parallel.hierarchical import HierarchicalCommunicator, open_by_host

log = logging.getLogger(__name__)


def fast_communicator(
    group: Communicator, *, timeout: float, shared_memory: bool = True, compression: Form = "exact"
) -> Communicator:
    """``group`` as fast as these ranks can have it. Every rank of ``group`` calls this, with equal options.

    Args:
        timeout: seconds after which a peer that does not come to a sum counts as hung.
        shared_memory: within each host.
        compression: the least exact form of large sums between hosts; within a host everything is exact.
    """
    if group.size == 1 or not isinstance(group, TorchCommunicator):
        return group
    found = open_by_host(group, timeout=timeout) if shared_memory else group
    if compression == "exact":
        return found
    if found is group:
        return _compressed(group, compression)
    if isinstance(found, HierarchicalCommunicator) and found.between is not None:
        found.between = _compressed(found.between, compression)
    return found


def _compressed(group: Communicator, allowed: Form) -> Communicator:
    found = CompressedCommunicator(group, allowed)
    if found.link is not None and group.rank == 0:
        log.info("sums between %d hosts: %.0f Mbit/s measured", group.size, found.link.bytes_per_second * 8e-6)
    return found
