"""What a source emits, and where it is, until that is durable: bounded, in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from aiopype.emitter import check_record
from aiopype.errors import EmitError, OutboxFull
from aiopype.event import Emitted, Key, key_bytes
from aiopype.topics import Topic

__all__ = ["Intake"]

#: Events that may wait, and their bytes: some milliseconds of a fast source.
ROOM, ROOM_BYTES = 5_000, 8 * 1024 * 1024


class _Together(NamedTuple):
    """Events, and a position, that become durable in one transaction."""

    events: Sequence[Emitted]
    position: bytes | None
    size: int


class Intake:
    """The events of one source that wait, with the positions that belong to them.

    One side puts in: `checkpoint`, `put`, `put_all`, `flush`. The other side takes what waits in
    parts, and says of each whether it has become durable: `part`, then `settle` or `keep`.

    Arguments:
        component: the source's full name.
    """

    def __init__(self, component: str) -> None:
        self._component = component
        self._takes = True
        self._begun = 0
        #: Of what is durable, of what was put last, and of what shall go with the next event.
        self._durable: bytes | None = None
        self._put: bytes | None = None
        self._pending: bytes | None = None
        self._waiting: deque[Emitted | _Together] = deque()
        self._in_doubt = 0
        self._count = self._bytes = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()

    # --- what the source puts in

    @property
    def position(self) -> bytes | None:
        """The last position that was given, or found when the source started."""
        return self._pending if self._pending is not None else self._put

    @property
    def count(self) -> int:
        """How many events wait."""
        return self._count

    def checkpoint(self, position: bytes) -> None:
        """Take the position that belongs to the next event."""
        self._pending = position

    def forget_pending(self) -> None:
        """Drop a position that no event followed: the source failed before."""
        self._pending = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def refuse(self) -> None:
        """Take nothing more of the source as it runs now."""
        self._takes = False

    def admit(self) -> None:
        """Take what the source puts in that starts now."""
        self._takes = True

    def put_nowait(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event.

        Raises:
            OutboxFull: 5,000 events, or 8 MiB of them, wait already.
            OutputTooLarge: the event's topic takes no value of this size.
            EmitError: another owner has written since the source started.
        """
        self._check_takes()
        if not self._room.is_set():
            raise OutboxFull(
                f"{self._count} events of {self._component!r} wait for Kafka; "
                "use `await emit_async(...)`, which waits for room"
            )
        raw = None if key is None else key_bytes(key)
        size = len(value) if raw is None else len(raw) + len(value)
        check_record(topic, raw, size)
        event = (topic, raw, value, int(time.time() * 1000), False)
        if self._pending is None:
            self._add(event, 1, size)
        else:
            self._put, self._pending = self._pending, None
            self._add(_Together((event,), self._put, size), 1, size)

    async def put(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event when there is room."""
        while not self._room.is_set():
            await self._room.wait()
        self.put_nowait(topic, key, value)

    async def put_all(self, events: Sequence[Emitted], position: bytes | None) -> None:
        """Take events, and a position, that become durable together, when there is room."""
        while not self._room.is_set():
            await self._room.wait()
        self._check_takes()
        if position is None:
            position = self._pending
        if not events and position is None:
            return
        self._pending = None
        self._put = self._put if position is None else position
        size = sum(len(value or b"") for _, _, value, *_ in events)
        mine = [(topic, key, value, at, False) for topic, key, value, at, _ in events]
        self._add(_Together(mine, position, size), len(mine), size)

    async def flush(self) -> None:
        """Wait until what was put, and the last position, is durable.

        Raises:
            EmitError: it never will be: another owner has written meanwhile.
        """
        self._check_takes()
        begun = self._begun
        if self._pending is not None:
            self._put, self._pending = self._pending, None
            self._add(_Together((), self._put, 0), 0, 0)
        await self._empty.wait()
        if begun != self._begun:
            raise _dropped(self._component)

    def _check_takes(self) -> None:
        if not self._takes:
            raise _dropped(self._component)

    def _add(self, entry: Emitted | _Together, count: int, size: int) -> None:
        self._waiting.append(entry)
        self._count += count
        self._bytes += size
        self._filled.set()
        self._empty.clear()
        if self._count >= ROOM or self._bytes >= ROOM_BYTES:
            self._room.clear()

    # --- what is taken out

    async def filled(self) -> None:
        """Wait until something waits."""
        await self._filled.wait()

    def nudge(self) -> None:
        """Have one more part taken although there may be no event."""
        if len(self._waiting) <= self._in_doubt:
            self._add(_Together((), None, 0), 0, 0)

    def part(self) -> tuple[list[Emitted], bytes | None]:
        """Return the next events, and the position behind them; they are in doubt then.

        What was put together is in one part.
        """
        events: list[Emitted] = []
        position = self._durable
        self._in_doubt = 0
        for entry in self._waiting:
            if len(events) >= ROOM:
                break
            self._in_doubt += 1
            if isinstance(entry, _Together):
                events += entry.events
                position = entry.position or position
            else:
                events.append(entry)
        return events, position

    def keep(self) -> None:
        """Note that what was in doubt is not durable: it is the next part again."""
        self._in_doubt = 0

    def settle(self) -> None:
        """Note that what was in doubt is durable."""
        for _ in range(self._in_doubt):
            entry = self._waiting.popleft()
            if isinstance(entry, _Together):
                self._durable = entry.position or self._durable
                self._count -= len(entry.events)
                self._bytes -= entry.size
            else:
                _, key, value, *_ = entry
                self._count -= 1
                self._bytes -= len(key or b"") + len(value or b"")
        self._in_doubt = 0
        self._note_room()

    def _note_room(self) -> None:
        if self._count < ROOM and self._bytes < ROOM_BYTES:
            self._room.set()
        if not self._waiting:
            self._filled.clear()
            self._empty.set()

    def begin(self, position: bytes | None) -> None:
        """Drop what waits; the source is at `position` now."""
        self._waiting.clear()
        self._in_doubt = self._count = self._bytes = 0
        self._begun += 1
        self._note_room()
        self._durable = self._put = position
        self._pending = None


def _dropped(component: str) -> EmitError:
    return EmitError(
        f"another owner of {component!r} has written meanwhile; what this run of it emitted and is "
        "not durable is dropped, and it is started again"
    )
