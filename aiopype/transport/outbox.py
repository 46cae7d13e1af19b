"""The outbox of a source: bounded, written in transactions that fence every earlier owner."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from aiopype.errors import DeliveryError, OutputRefused, SourceError, SourceFenced
from aiopype.event import Emitted
from aiopype.logs import about
from aiopype.ownership import SourceState, Stopped
from aiopype.transport.intake import Intake
from aiopype.transport.outputs import pack, partition_of
from aiopype.transport.owning import Owning
from aiopype.transport.producer import TOO_LARGE
from aiopype.transport.refusals import FAILURES, translated
from aiopype.transport.transactions import ATTEMPT_SECONDS, TransactionalProducer

if TYPE_CHECKING:
    from aiopype.tracing.spans import Trace

__all__ = ["SourceOutbox"]

logger = logging.getLogger(__name__)

#: Between two attempts to send the same events.
RETRY_SECONDS = 1.0

#: Owners that write between this one's transactions although the group says that the source is
#: this one's: so many in so long a time are another flow of the same name, not an accident.
FENCINGS, FENCINGS_SECONDS = 3, 300.0

#: Events of different topics differ in their number of partitions; the number of a source's own is
#: taken for the most there can be, and folded by `pack`.
MOST_PARTITIONS = 0x7FFFFFFF


class SourceOutbox(Intake):
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
        written_at: when an event was last written, in seconds since 1970; None before the first.
        stuck_since: since when owning the source, or writing what waits, has been tried in vain, on
            the monotonic clock; None while nothing is to be done.
        trouble: why the last such try was in vain.
    """

    def __init__(self, component: str, owning: Owning) -> None:
        super().__init__(component)
        self._name_key = component.encode()
        self._home = partition_of(self._name_key, MOST_PARTITIONS)
        self._owning = owning
        self._producer: TransactionalProducer | None = None
        self.epoch = 0
        self.written_at: float | None = None
        self.stuck_since: float | None = None
        self.trouble = ""
        self._stopped: Stopped | None = None
        self._run = ""
        self._is_new = False
        self._obeyed = (False, 0)
        self._number = 0
        self._since_ms = 0
        self._fencings: deque[float] = deque(maxlen=FENCINGS)

    def obey(self, is_paused: bool, restart: int) -> None:
        """Say in the source's state what of the wishes is done, for those who wait for it."""
        if self._obeyed != (is_paused, restart):
            self._obeyed = (is_paused, restart)
            if self._run:
                self.nudge()

    def tell(self, stopped: Stopped | None) -> None:
        """Say in the source's state whether it runs, for those who look at it from outside."""
        if self._stopped != stopped:
            self._stopped = stopped
            if self._run:
                self.nudge()

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
        self._try()
        self._producer = await self._owned()
        if self.is_empty:
            self.stuck_since = None
        is_new, self._is_new = self._is_new, False
        if is_new:
            logger.info(
                "source %s is this worker's, epoch %d, position %.100s",
                self._component, self.epoch, (self.position or b"none").decode(errors="replace"),
                extra=about(self._component),
            )  # fmt: skip
        return is_new

    async def say(self) -> None:
        """Write the source's state alone, of a source whose events are refused; these wait on.

        Raises:
            OwnershipLost, DeliveryError, StateCorrupt, SourceFenced: as `open`.
        """
        await self._commit(await self._owned(), (), self._durable)

    async def _owned(self) -> TransactionalProducer:
        """Fence every other owner; return what to write with."""
        owning, source = self._owning, self._component
        name = f"{owning.group}.src.{source}"
        await owning.confirm(source)
        try:
            async with owning.opening, asyncio.timeout(ATTEMPT_SECONDS):
                producer = await owning.connect(name)
                await producer.start()
        except FAILURES as error:
            raise translated(error, f"opening a transactional producer, {name}") from error
        # Who was frozen and lost the source meanwhile must not write that it is the owner.
        await owning.confirm(source)
        state = await owning.states.read(source)
        if state is not None and state.run == self._run:
            if state.number == self._number:
                self.settle()
            else:
                self.keep()
            self._number = state.number
        else:
            self._begin(state)
            await self._commit(producer, (), self.position)
        return producer

    def _begin(self, state: SourceState | None) -> None:
        if self._run:
            self.refuse()
            if not self._is_new:  # else it has not come to own it, and nobody took it away
                self._note_fencing(state)
        if self.count:
            logger.warning(
                "%d events of source %s are dropped: another owner has written meanwhile",
                self.count, self._component,
                extra=about(self._component),
            )  # fmt: skip
        self.begin(None if state is None else state.raw_position)
        self._is_new = True
        self._run = uuid.uuid4().hex
        self._number = -1
        self._since_ms = int(time.time() * 1000)
        self.epoch = 1 if state is None else state.epoch + 1

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

    @property
    def is_open(self) -> bool:
        """Whether it can write without another `open`."""
        return self._producer is not None

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
                await self.filled()
            self._try()
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
                self.trouble = str(error)
                about_it = about(self._component)
                logger.warning("events of %s wait: %s", self._component, error, extra=about_it)
                # Not all sources of a worker at the same moment.
                await asyncio.sleep(RETRY_SECONDS * random.uniform(1, 2))  # noqa: S311

    async def _write(self) -> None:
        if self.is_empty:
            return
        assert self._producer is not None
        await self._commit(self._producer, *self.part())
        self.settle()
        self.stuck_since = None

    def _try(self) -> None:
        if self.stuck_since is None:
            self.stuck_since = time.monotonic()

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
        trace = self._trace(events)
        if trace is not None:
            events = trace.stamp(events)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await owning.limits.prepare()
                packed = pack(
                    [*events, record],
                    producer.create_batch,
                    self._home,
                    None,
                    traced=trace is not None,
                )
                with trace or contextlib.nullcontext():
                    await producer.commit(packed, owning.group, {})
        except FAILURES as error:
            if isinstance(error, TOO_LARGE) and owning.limits.look_again(events):
                raise DeliveryError(f"the limits of topics have changed: {error!r}") from error
            raise translated(error, "writing events") from error
        if events:
            self.written_at = time.time()
        for item in packed:
            if item.topic != owning.states.topic.name:
                owning.progress.emitted(item.topic, item.batch.record_count())

    def _trace(self, events: Sequence[Emitted]) -> Trace | None:
        tracing = None if self._owning.traced is None else self._owning.traced.tracing
        return tracing.of_source(self._component, len(events)) if tracing and events else None

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
            stopped=self._stopped,
        )
        return (self._owning.states.topic, self._name_key, state.encode(), now, False)
