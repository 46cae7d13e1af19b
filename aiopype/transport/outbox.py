"""The outbox of a source: bounded, sent in batches in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from aiopype.errors import DeliveryError, OutboxFull, OutputRefused
from aiopype.event import Emitted, Key, key_bytes
from aiopype.topics import Topic
from aiopype.transport.outputs import partition_of
from aiopype.transport.producer import Producer

__all__ = ["SourceOutbox"]

logger = logging.getLogger(__name__)

#: Events that may wait: some milliseconds of a fast source, a few megabytes.
ROOM = 5_000

#: Between two attempts to send the same events.
RETRY_SECONDS = 1.0


class SourceOutbox:
    """Takes the events of one running source and sends them in order.

    A source is slowed down to what Kafka takes: `put` waits for room, `put_nowait` raises. Events
    that could not be written are tried again until they are, or until the source is stopped.

    Arguments:
        component: the source's full name; an event without a key goes to the partition of it, so
            that the source's order holds.
        producer: writes the events.
    """

    def __init__(self, component: str, producer: Producer) -> None:
        self._component = component
        self._name_key = component.encode()
        self._producer = producer
        self._waiting: deque[Emitted] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()

    def put_nowait(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event.

        Raises:
            OutboxFull: 5,000 events wait already.
        """
        if len(self._waiting) >= ROOM:
            raise OutboxFull(
                f"{len(self._waiting)} events of {self._component!r} wait for Kafka; "
                "use `await emit_async(...)`, which waits for room"
            )
        raw = None if key is None else key_bytes(key)
        self._waiting.append((topic, raw, value, int(time.time() * 1000), False))
        self._filled.set()
        self._empty.clear()
        if len(self._waiting) >= ROOM:
            self._room.clear()

    async def put(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event when there is room."""
        while not self._room.is_set():
            await self._room.wait()
        self.put_nowait(topic, key, value)

    async def run(self) -> None:
        """Send what is put, until cancelled.

        Raises:
            OutputRefused: an event can never be written; it and those behind it are not.
        """
        while True:
            await self._filled.wait()
            events = list(self._waiting)
            await self._send(events)
            for _ in events:
                self._waiting.popleft()
            self._room.set()
            if not self._waiting:
                self._filled.clear()
                self._empty.set()

    async def flush(self) -> None:
        """Wait until everything that was put is acknowledged."""
        await self._empty.wait()

    async def _send(self, events: list[Emitted]) -> None:
        while True:
            try:
                # Events of different topics may differ in their number of partitions, so the
                # number is taken for the most there can be and folded by `pack`.
                await self._producer.send(events, partition_of(self._name_key, 0x7FFFFFFF))
            except OutputRefused:
                raise
            except DeliveryError as error:
                logger.warning("events of %r wait: %s", self._component, error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return
