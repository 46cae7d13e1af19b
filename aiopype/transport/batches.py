"""A batch, and what a partition needs of those who deliver it and feed it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Protocol

from aiopype.event import Emitted, Record
from aiopype.settlement import Attempt

if TYPE_CHECKING:
    from aiopype.tracing.spans import Trace
    from aiopype.transport.partition import Partition

__all__ = ["Batch", "Delivery", "Feed"]


class Batch:
    """Records of one partition, in order, on their way through all its subscriptions.

    Attributes:
        partition: where they came from.
        records: as fetched.
        position: the offset after them, committed when they are done; None for events that waited,
            whose offsets are committed already.
        emitted: what the handlers that have run emitted, dead letters, and the entries of `parked`.
        parked: events that go to the parking, with the index of their subscription.
        rest: records that were not handled in time; the next batch.
        began: when its handling began, on the monotonic clock.
        trace: its span; None where none of its events is traced.
    """

    __slots__ = ("began", "emitted", "parked", "partition", "position", "records", "rest", "trace")

    def __init__(
        self, partition: Partition, records: Sequence[Record], position: int | None
    ) -> None:
        self.partition = partition
        self.records = records
        self.position = position
        self.emitted: list[Emitted] = []
        self.parked: list[tuple[int, Attempt]] = []
        self.rest: Batch | None = None
        self.began = 0.0
        self.trace: Trace | None = None

    def cut(self, count: int) -> None:
        """Keep the first `count` records; the others become `rest`."""
        if count < len(self.records):
            self.rest = Batch(self.partition, self.records[count:], self.position)
            self.position = self.records[count].offset
            self.records = self.records[:count]


class Delivery(Protocol):
    """How the outputs of a batch and its offset become durable; one class a guarantee.

    Attributes:
        trusts_memory: whether a partition that was open goes on from the position it remembers,
            rather than from the group's.
    """

    trusts_memory: bool

    async def open(self, partition: Partition) -> None:
        """Make sure that no predecessor can write for this partition any more.

        Called before the group's position is read, and again after each DeliveryError.

        Raises:
            OwnershipLost: the partition belongs to another worker by now.
            OutputRefused: this client may not write.
            DeliveryError: not in time.
        """

    async def deliver(self, batch: Batch) -> None:
        """Make a batch durable: first what it emitted, then its position, or both at once.

        One call at a time for each partition.

        Raises:
            OutputRefused: an output can never be written.
            OwnershipLost: the partition belongs to another worker by now.
            DeliveryError: not in time; nothing or everything of it may be there.
        """

    async def keep(self, partitions: Sequence[Partition]) -> None:
        """Let go of what belongs to other partitions than these, which are now assigned."""


class Feed(Protocol):
    """What a partition needs of the consumer.

    Attributes:
        turns: held by the batch whose handlers run.
        threads: run blocking handlers.
    """

    turns: asyncio.Lock
    threads: Executor

    @property
    def is_feeding(self) -> bool:
        """Whether new batches may begin."""

    def give(self, batch: Batch, index: int) -> None:
        """Hand a batch to the agent of the subscription with this index."""

    def wake(self) -> None:
        """Say that there is room for records."""

    async def go_on(self, partition: Partition, position: int | None, known: int | None) -> int:
        """Fetch from `position` on, or from where the group has got; return the position.

        Arguments:
            known: up to where this worker knows everything to be committed; the group's own word
                counts only beyond that.

        Raises:
            DeliveryError: the broker does not say.
        """

    async def check_ownership(self, partition: Partition) -> None:
        """Ask the group whether the partition is still this worker's.

        Raises:
            OwnershipLost: it is another's, or the group is being rebalanced.
            DeliveryError: the broker does not say.
        """
