"""A back-fill comes in parts, while the live frames wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from aiopype.inputs import RawInput
from aiopype.sources.connections import ConnectionLost

__all__ = ["Held", "close_iterator", "next_part"]

#: A part of a back-fill is durable as a whole; a smaller back-fill is one part.
PART_MESSAGES, PART_BYTES = 5_000, 16 * 1024 * 1024

#: Live frames that wait for the end of a back-fill; with more the socket is not read any more.
HELD_BYTES = 16 * 1024 * 1024

#: What an object takes beside its bytes, about.
OBJECT_BYTES = 200


class Held:
    """Live frames that wait for the end of a back-fill.

    Attributes:
        frames: those that came, in order.
        lost: how the connection ended meanwhile; None while it lives.
    """

    def __init__(self) -> None:
        self.frames: deque[RawInput] = deque()
        self.lost: ConnectionLost | None = None

    async def collect(self, read: Callable[[], Awaitable[RawInput]]) -> None:
        """Take frames until there is no room, the connection is lost, or this is cancelled."""
        size = 0
        try:
            while size < HELD_BYTES:
                raw = await read()
                self.frames.append(raw)
                size += len(raw.data) + OBJECT_BYTES
        except ConnectionLost as lost:
            self.lost = lost


async def next_part(
    items: AsyncIterator[Any], timeout_seconds: float, take: Callable[[Any], RawInput]
) -> tuple[list[RawInput], bool]:
    """Return the next items of a back-fill, and whether they are the last.

    Arguments:
        timeout_seconds: how long it may take to the next item.
        take: makes a raw input of an item; called as each comes.

    Raises:
        TimeoutError: no item came.
        Exception: whatever the hook raised.
    """
    part: list[RawInput] = []
    size = 0
    while len(part) < PART_MESSAGES and size < PART_BYTES:
        try:
            async with asyncio.timeout(timeout_seconds) as patience:
                item = await anext(items)
        except StopAsyncIteration:
            return part, True
        except TimeoutError as error:
            if not patience.expired():
                raise
            raise TimeoutError(f"nothing came for {timeout_seconds:g} s") from error
        raw = take(item)
        part.append(raw)
        size += len(raw.data) + OBJECT_BYTES
    return part, False


async def close_iterator(items: AsyncIterator[Any], timeout_seconds: float) -> None:
    """Have a back-fill that is not read to its end clean up.

    Raises:
        TimeoutError: it does not end.
        Exception: whatever it raised.
    """
    if isinstance(items, AsyncGenerator):
        async with asyncio.timeout(timeout_seconds):
            await items.aclose()
