"""One partition that this worker owns: a batch in work, one in hand."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from aiopype.errors import DeliveryError, OutputRefused, OwnershipLost
from aiopype.event import Emitted, Record
from aiopype.execution import run_batch
from aiopype.graph import Subscription
from aiopype.topics import Topic

__all__ = ["Batch", "Delivery", "Feed", "Partition"]

logger = logging.getLogger(__name__)

#: A batch closes after this much handling: what is done is made durable, the rest is the next one.
BATCH_SECONDS = 1.0

#: Bounds of the back-off after a delivery that failed.
FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.1, 10.0


class Batch:
    """Records of one partition, in order, on their way through all its subscriptions.

    Attributes:
        partition: where they came from.
        records: as fetched.
        position: the offset after them; what is committed when they are done.
        emitted: what the handlers that have run emitted.
        rest: records that were not handled in time; the next batch.
    """

    __slots__ = ("emitted", "partition", "position", "records", "rest")

    def __init__(self, partition: Partition, records: Sequence[Record], position: int) -> None:
        self.partition = partition
        self.records = records
        self.position = position
        self.emitted: list[Emitted] = []
        self.rest: Batch | None = None

    def cut(self, count: int) -> None:
        """Keep the first `count` records; the others become `rest`."""
        if count < len(self.records):
            self.rest = Batch(self.partition, self.records[count:], self.position)
            self.position = self.records[count].offset
            self.records = self.records[:count]


class Delivery(Protocol):
    """How the outputs of a batch and its offset become durable; one class a guarantee."""

    async def deliver(self, batch: Batch) -> None:
        """Make a batch durable: first what it emitted, then its position, or both at once.

        Raises:
            OutputRefused: an output can never be written.
            OwnershipLost: the partition belongs to another worker by now.
            DeliveryError: not in time; nothing or everything of it may be there.
        """


class Feed(Protocol):
    """What a partition needs of the consumer.

    Attributes:
        turns: held by the batch whose handlers run.
    """

    turns: asyncio.Lock

    @property
    def is_feeding(self) -> bool:
        """Whether new batches may begin."""

    def give(self, batch: Batch, index: int) -> None:
        """Hand a batch to the agent of the subscription with this index."""

    def wake(self) -> None:
        """Say that there is room for records."""

    async def rewind(self, partition: Partition, offset: int) -> None:
        """Fetch again from `offset` on."""


class Partition:
    """Takes the batches of one partition through its subscriptions, one batch at a time.

    Arguments:
        topic: the event's topic.
        number: the partition's number.
        subscriptions: of the topic, in order; their agents share each batch.
        feed: the consumer.
        delivery: makes batches durable.
        fail: called with what and why when a handler or an output fails for good.
    """

    def __init__(
        self,
        topic: Topic,
        number: int,
        subscriptions: Sequence[Subscription],
        feed: Feed,
        delivery: Delivery,
        fail: Callable[[Exception, str], None],
    ) -> None:
        self.topic = topic
        self.number = number
        self.subscriptions = subscriptions
        self.idle = asyncio.Event()
        self.idle.set()
        self._feed = feed
        self._delivery = delivery
        self._fail = fail
        self._work: Batch | None = None
        self._hand: Batch | None = None
        self._delay = 0.0
        self._stalled = False
        self._closed = False

    def __repr__(self) -> str:
        return f"{self.topic.name}[{self.number}]"

    @property
    def has_room(self) -> bool:
        """Whether it takes another batch; only then it is fetched."""
        return self._hand is None and not (self._stalled or self._closed)

    @property
    def is_closed(self) -> bool:
        """Whether it was given up, or its manager stopped."""
        return self._closed

    def take(self, records: Sequence[Record], position: int) -> None:
        """Take records that were fetched; only when there is room."""
        batch = Batch(self, records, position)
        if self._work is None and self._feed.is_feeding:
            self._begin(batch)
        else:
            self._hand = batch

    def close(self) -> None:
        """Take no more, and forget what is under way: nothing of it will be committed."""
        self._closed = True
        self._work = self._hand = None
        self.idle.set()

    async def run(self, batch: Batch, index: int) -> None:
        """Run one subscription over a batch, as its agent; the last one makes it durable.

        Guarantees that nothing a handler raises leaves here: Faust would take the event for done.
        """
        if batch is not self._work:
            return  # revoked while it waited for its agent
        try:
            await self._run(batch, index)
        except asyncio.CancelledError:
            self.close()
            raise

    async def _run(self, batch: Batch, index: int) -> None:
        seconds = BATCH_SECONDS if index == 0 else float("inf")
        outcome = await run_batch(
            self.subscriptions[index], batch.records, seconds=seconds, turns=self._feed.turns
        )
        if batch is not self._work:
            return  # revoked while it was handled
        if outcome.failure is not None:
            failure = outcome.failure
            self._stop(failure.error, f"{failure} ({self} offset {failure.record.offset})")
            return
        batch.cut(outcome.handled)
        batch.emitted += outcome.emitted
        if index + 1 < len(self.subscriptions):
            self._feed.give(batch, index + 1)
            return
        try:
            await self._delivery.deliver(batch)
        except OwnershipLost as error:
            logger.warning("%r is lost, its batch is dropped uncommitted: %s", self, error)
            self.close()
        except OutputRefused as error:
            self._stop(error, f"an output of {self} cannot be written: {error}")
        except DeliveryError as error:
            await self._recover(batch, error)
        else:
            self._delay = 0.0
            self._advance(batch)

    def _begin(self, batch: Batch) -> None:
        self._work = batch
        self.idle.clear()
        self._feed.give(batch, 0)

    def _advance(self, batch: Batch) -> None:
        if batch is not self._work:
            return  # revoked while it was delivered
        following = batch.rest or self._hand
        if batch.rest is None:
            self._hand = None
        if following is not None and self._feed.is_feeding:
            self._begin(following)
        else:
            self._rest()
        self._feed.wake()

    def _rest(self) -> None:
        self._work = self._hand = None
        self.idle.set()

    def _stop(self, error: Exception, what: str) -> None:
        self.close()
        self._fail(error, what)

    async def _recover(self, batch: Batch, error: DeliveryError) -> None:
        """Wait, then read the batch again: it may or may not be there, so it is handled again."""
        self._hand = None
        self._stalled = True
        delay = min(max(self._delay * 2, FIRST_DELAY_SECONDS), LAST_DELAY_SECONDS)
        self._delay = delay
        logger.warning(
            "%r: %s; %d events from offset %d are handled again in %.1f s",
            self, error, len(batch.records), batch.records[0].offset, delay,
        )  # fmt: skip
        await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
        if batch is not self._work:
            return
        await self._feed.rewind(self, batch.records[0].offset)
        self._stalled = False
        self._rest()
        self._feed.wake()
