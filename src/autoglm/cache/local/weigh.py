"""The weigher used where a cache has a weight limit and none was given."""

from __future__ import annotations

import sys


def payload_bytes(_key: object, value: object) -> int:
    """Bytes of the value: ``nbytes`` of arrays and tensors, the members of plain containers, else its own size.

    Shared members are counted each time they are met; the key is not counted.
    """
    total = 0
    pending = [value]
    seen_containers: set[int] = set()
    while pending:
        item = pending.pop()
        nbytes = getattr(item, "nbytes", None)
        if isinstance(nbytes, int):
            total += nbytes
            continue
        total += sys.getsizeof(item)
        if isinstance(item, list | tuple | set | frozenset | dict) and id(item) not in seen_containers:
            seen_containers.add(id(item))
            if isinstance(item, dict):
                pending.extend(item.keys())
                pending.extend(item.values())
            else:
                pending.extend(item)
    return total
