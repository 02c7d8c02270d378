"""Server-sent events, as far as OpenAI-compatible servers use them: ``data:`` lines between empty lines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from autoglm.errors import ModelServerError

MAX_EVENT_BYTES = 2**20


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of each event. Lines end at a line feed only: text inside may hold other line separators.

    Raises:
        ModelServerError: an event longer than :data:`MAX_EVENT_BYTES`.
    """
    buffer = bytearray()
    data: list[bytes] = []
    async for chunk in chunks:
        buffer += chunk
        *lines, rest = buffer.split(b"\n")
        buffer = bytearray(rest)
        waiting = len(buffer) + sum(map(len, data))
        if waiting > MAX_EVENT_BYTES:
            raise ModelServerError(
                "an event of the answer is too long", field="data", limit=MAX_EVENT_BYTES, value=waiting
            )
        for line in lines:
            if line.startswith(b"data:"):
                data.append(bytes(line[5:].strip()))
            elif not line.strip() and data:
                yield b"\n".join(data)
                data.clear()
    if data:
        yield b"\n".join(data)
