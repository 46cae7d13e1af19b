"""What traces add to batches: spans around their handling, ended by their delivery."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from aiopype.transport.batches import Batch, Delivery

if TYPE_CHECKING:
    from aiopype.tracing.spans import Tracing
    from aiopype.transport.partition import Partition

__all__ = ["Traced", "begin", "within"]


class Traced:
    """A delivery that ends the spans of its batches."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.trusts_memory = delivery.trusts_memory

    async def open(self, partition: Partition) -> None:
        """Open, as the delivery does."""
        await self._delivery.open(partition)

    async def keep(self, partitions: Sequence[Partition]) -> None:
        """Keep, as the delivery does."""
        await self._delivery.keep(partitions)

    async def deliver(self, batch: Batch) -> None:
        """Deliver; then the span ends, with the error if there was one."""
        with batch.trace or contextlib.nullcontext():
            await self._delivery.deliver(batch)


def begin(batch: Batch, tracing: Tracing) -> None:
    """Begin the span of a batch, if one of its events is traced."""
    partition = batch.partition
    begun = tracing.of_batch(partition.topic, partition.number, batch.records)
    if begun is not None:
        batch.trace, batch.records = begun


async def within(batch: Batch, work: Coroutine[Any, Any, None]) -> None:
    """Await `work`; spans that handlers open belong to the batch's."""
    if batch.trace is None:
        await work
    else:
        await batch.trace.around(work)
