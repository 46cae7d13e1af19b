"""The outbox of a source: bounded, written in transactions that fence every earlier owner."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from aiopype.emitter import check_record
from aiopype.errors import (
    DeliveryError,
    EmitError,
    OutboxFull,
    OutputRefused,
    SourceError,
    SourceFenced,
)
from aiopype.event import Emitted, Key, key_bytes
from aiopype.ownership import SourceState
from aiopype.progress import Progress
from aiopype.topics import Topic
from aiopype.transport.limits import Limits
from aiopype.transport.outputs import pack, partition_of
from aiopype.transport.producer import TOO_LARGE
from aiopype.transport.refusals import FAILURES, translated
from aiopype.transport.source_states import SourceStates
from aiopype.transport.transactions import ATTEMPT_SECONDS, TransactionalProducer

__all__ = ["Owning", "SourceOutbox"]

logger = logging.getLogger(__name__)

#: Events that may wait, and their bytes: some milliseconds of a fast source.
ROOM, ROOM_BYTES = 5_000, 8 * 1024 * 1024

#: Owners that open, and that write, at once.
OPENING, WRITING = 32, 64

#: Between two attempts to send the same events.
RETRY_SECONDS = 1.0

#: Owners that write between this one's transactions although the group says that the source is
#: this one's: so many in so long a time are another flow of the same name, not an accident.
FENCINGS, FENCINGS_SECONDS = 3, 300.0

#: Events of different topics differ in their number of partitions; the number of a source's own is
#: taken for the most there can be, and folded by `pack`.
MOST_PARTITIONS = 0x7FFFFFFF


@dataclass(frozen=True, kw_only=True)
class Owning:
    """What the outboxes of all sources of a worker share.

    Attributes:
        group: the flow's consumer group.
        worker: this worker's name.
        connect: returns a producer of a transactional id, not started.
        confirm: asks the group whether a source is this worker's, or raises OwnershipLost.
        states: reads where sources are.
        limits: makes sure that the topics written to exist, and knows what they take.
        progress: counts what was written.
        opening, writing: how many may do so at once. Those that wait collect more for their next
            transaction; all at once would be too late, throw their producers away, and make more
            work for brokers that have too much.
    """

    group: str
    worker: str
    connect: Callable[[str], Awaitable[TransactionalProducer]]
    confirm: Callable[[str], Awaitable[None]]
    states: SourceStates
    limits: Limits
    progress: Progress
    opening: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(OPENING))
    writing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WRITING))


class _Together(NamedTuple):
    """Events, and a position, that become durable in one transaction."""

    events: Sequence[Emitted]
    position: bytes | None
    size: int


class SourceOutbox:
    """Takes the events of one source that runs here, and writes them in order, exactly once.

    `open` fences whoever owned the source before, reads where that one was, and makes this the
    owner. Each transaction holds what waits, and the source's state: position, epoch and the
    number of the transaction. After any error the producer is thrown away and `open` reads the
    state again: it says whether the transaction in doubt has happened. If nobody else has written
    meanwhile the source runs on; otherwise what waits is dropped, nothing is taken any more of the
    source as it runs now, and it begins anew from the other's position.

    Arguments:
        component: the source's full name; an event without a key goes to the partition of it, so
            that the source's order holds.
        owning: what all outboxes share.

    Attributes:
        epoch: how many owners the source has had; 0 before the first `open`.
    """

    def __init__(self, component: str, owning: Owning) -> None:
        self._component = component
        self._name_key = component.encode()
        self._home = partition_of(self._name_key, MOST_PARTITIONS)
        self._owning = owning
        self._producer: TransactionalProducer | None = None
        self.epoch = 0
        self._run = ""
        self._is_new = False
        self._takes = True
        self._obeyed = (False, 0)
        self._number = 0
        self._since_ms = 0
        self._fencings: deque[float] = deque(maxlen=FENCINGS)
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
        run = self._run
        if self._pending is not None:
            self._put, self._pending = self._pending, None
            self._add(_Together((), self._put, 0), 0, 0)
        await self._empty.wait()
        if run != self._run:
            raise _dropped(self._component)

    def obey(self, is_paused: bool, restart: int) -> None:
        """Say in the source's state what of the wishes is done, for those who wait for it."""
        if self._obeyed != (is_paused, restart):
            self._obeyed = (is_paused, restart)
            if self._run:
                self._add(_Together((), None, 0), 0, 0)

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

    # --- owning the source

    async def open(self) -> bool:
        """Fence every other owner and find out where the source is.

        Returns:
            Whether the source begins anew, at `position`; otherwise it goes on with what waits.

        Raises:
            OwnershipLost: the group says that it is another worker's.
            DeliveryError: the brokers did not answer in time; try again.
            OutputRefused: this client may not do it.
            StateCorrupt: what is stored of the source cannot be read.
            SourceFenced: another flow of the same name has the same source.
        """
        owning, source = self._owning, self._component
        await owning.confirm(source)
        try:
            async with owning.opening, asyncio.timeout(ATTEMPT_SECONDS):
                producer = await owning.connect(f"{owning.group}.src.{source}")
                await producer.start()
        except FAILURES as error:
            raise translated(error, "opening a transactional producer") from error
        # Who was frozen and lost the source meanwhile must not write that it is the owner.
        await owning.confirm(source)
        state = await owning.states.read(source)
        if state is not None and state.run == self._run:
            if self._in_doubt and state.number == self._number:
                self._settle()
            self._in_doubt = 0
            self._number = state.number
        else:
            self._begin(state)
            await self._commit(producer, (), self._durable)
        self._producer = producer
        is_new, self._is_new = self._is_new, False
        if is_new:
            logger.info(
                "source %s is this worker's, epoch %d, position %.100s",
                source, self.epoch, (self._durable or b"none").decode(errors="replace"),
            )  # fmt: skip
        return is_new

    def _begin(self, state: SourceState | None) -> None:
        if self._run:
            self._takes = False
            if not self._is_new:  # else it has not come to own it, and nobody took it away
                self._note_fencing(state)
        if self._count:
            logger.warning(
                "%d events of source %s are dropped: another owner has written meanwhile",
                self._count, self._component,
            )  # fmt: skip
        self._waiting.clear()
        self._in_doubt = self._count = self._bytes = 0
        self._note_room()
        self._is_new = True
        self._run = uuid.uuid4().hex
        self._number = -1
        self._since_ms = int(time.time() * 1000)
        self.epoch = 1 if state is None else state.epoch + 1
        self._durable = self._put = None if state is None else state.raw_position
        self._pending = None

    def _note_fencing(self, state: SourceState | None) -> None:
        if state is not None and state.is_reset:
            return
        now = time.monotonic()
        self._fencings.append(now)
        if len(self._fencings) == FENCINGS and now - self._fencings[0] < FENCINGS_SECONDS:
            self._fencings.clear()
            self._run = ""
            other = "nobody" if state is None else state.worker
            raise SourceFenced(
                f"another owner, {other}, has written {FENCINGS} times in {FENCINGS_SECONDS:g} s "
                f"while the source was this worker's, {self._owning.worker}; is there another flow "
                f"named {self._owning.group!r} on these brokers? Give one another name"
            )

    def discard(self) -> None:
        """Write no more; what waits stays. `open` goes on."""
        self._producer = None

    # --- writing

    async def run(self) -> None:
        """Write what is put, until cancelled; `open` was called before.

        Raises:
            OwnershipLost, OutputRefused, StateCorrupt, SourceFenced: as `open`.
            SourceError: another owner has written meanwhile; the source must be started again.
        """
        while True:
            if not self._is_new:  # else it is still to write that it has begun anew, and to say so
                await self._filled.wait()
            try:
                if self._producer is None and await self.open():
                    raise SourceError(
                        "another owner has written meanwhile; it starts again from that one's "
                        "position"
                    )
                async with self._owning.writing:
                    await self._write()
            except OutputRefused:
                self.discard()
                raise
            except DeliveryError as error:
                self.discard()
                logger.warning("events of %s wait: %s", self._component, error)
                # Not all sources of a worker at the same moment.
                await asyncio.sleep(RETRY_SECONDS * random.uniform(1, 2))  # noqa: S311

    async def _write(self) -> None:
        if not self._waiting:
            return
        events: list[Emitted] = []
        position = self._durable
        taken = 0
        for entry in self._waiting:
            if len(events) >= ROOM:
                break
            taken += 1
            if isinstance(entry, _Together):
                events += entry.events
                position = entry.position or position
            else:
                events.append(entry)
        assert self._producer is not None
        self._in_doubt = taken
        await self._commit(self._producer, events, position)
        self._settle()

    def _settle(self) -> None:
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

    async def _commit(
        self, producer: TransactionalProducer, events: Sequence[Emitted], position: bytes | None
    ) -> None:
        """Write events and state in one transaction.

        Raises:
            DeliveryError: that cannot be said; OutputRefused: it never can be.
        """
        owning = self._owning
        self._number += 1
        record = self._record(position)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await owning.limits.prepare()
                packed = pack([*events, record], producer.create_batch, self._home, None)
                await producer.commit(packed, owning.group, {})
        except FAILURES as error:
            if isinstance(error, TOO_LARGE) and owning.limits.look_again(events):
                raise DeliveryError(f"the limits of topics have changed: {error!r}") from error
            raise translated(error, "writing events") from error
        for item in packed:
            if item.topic != owning.states.topic.name:
                owning.progress.emitted(item.topic, item.batch.record_count())

    def _record(self, position: bytes | None) -> Emitted:
        now = int(time.time() * 1000)
        is_paused, restart = self._obeyed
        state = SourceState(
            position=msgspec.Raw(position or b"null"),
            epoch=self.epoch,
            run=self._run,
            number=self._number,
            worker=self._owning.worker,
            since_ms=self._since_ms,
            at_ms=now,
            is_paused=is_paused,
            restart=restart,
        )
        return (self._owning.states.topic, self._name_key, state.encode(), now, False)


def _dropped(component: str) -> EmitError:
    return EmitError(
        f"another owner of {component!r} has written meanwhile; what this run of it emitted and is "
        "not durable is dropped, and it is started again"
    )
