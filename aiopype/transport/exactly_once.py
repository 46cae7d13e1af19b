"""Outputs and offset of a batch in one transaction: exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from aiokafka import errors as kafka_errors
from aiokafka.structs import TopicPartition
from mode import Service

from aiopype.errors import DeliveryError, OwnershipLost
from aiopype.transport.outputs import pack
from aiopype.transport.producer import CLOSE_SECONDS, TOO_LARGE
from aiopype.transport.refusals import FAILURES, translated
from aiopype.transport.transactions import ATTEMPT_SECONDS, TransactionalProducer

if TYPE_CHECKING:
    from aiopype.progress import Progress
    from aiopype.transport.batches import Batch
    from aiopype.transport.ledger import Ledger
    from aiopype.transport.limits import Limits
    from aiopype.transport.partition import Partition

__all__ = ["ExactlyOnce"]

logger = logging.getLogger(__name__)

#: Producers that open at once: each finds its coordinator and fences its predecessor.
OPENING = 16


class ExactlyOnce(Service):
    """One transactional producer a partition, its id made of group, topic and partition.

    Whoever opens a partition fences, by that id, everybody who had it before, and ends what they
    left open; only then the group's position is read. The topic is part of the id: partition 0 of
    two topics can belong to two workers.

    Arguments:
        group: the flow's consumer group.
        connect: makes a producer of a transactional id.
        ledger: commits the positions of batches without outputs.
        limits: makes sure that the topics written to exist, and knows what they take.
        progress: counts what was written.
    """

    logger = logger
    mundane_level = "debug"
    trusts_memory = False

    def __init__(
        self,
        group: str,
        connect: Callable[[str], TransactionalProducer],
        ledger: Ledger,
        limits: Limits,
        progress: Progress,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._group = group
        self._connect = connect
        self._ledger = ledger
        self._limits = limits
        self._progress = progress
        self._producers: dict[TopicPartition, TransactionalProducer] = {}
        #: Whose last transaction has not ended well, or not yet.
        self._doubtful: set[TopicPartition] = set()
        self._opening = asyncio.Semaphore(OPENING)
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self, partition: Partition) -> None:
        """Fence whoever had the partition before; a producer that is in order is kept.

        Raises:
            OwnershipLost: the partition is another worker's by now.
            OutputRefused: this client may not use the transactional id.
            DeliveryError: not in 10 s.
        """
        tp = _tp(partition)
        if tp in self._producers and tp not in self._doubtful:
            return
        if tp in self._doubtful:
            # A worker that was frozen does not know yet that it lost the partition; it must not
            # fence its successor.
            await partition.check_ownership()
        self._discard(tp)
        name = f"{self._group}/{tp.topic}/{tp.partition}"
        producer = self._connect(name)
        try:
            async with self._opening, asyncio.timeout(ATTEMPT_SECONDS):
                await producer.start()
        except BaseException as error:
            self._close([producer])
            if not isinstance(error, FAILURES):
                raise
            raise translated(error, f"opening a transactional producer, {name}") from error
        self._doubtful.discard(tp)
        self._producers[tp] = producer

    async def deliver(self, batch: Batch) -> None:
        """Write outputs and offset in one transaction; raises as `Delivery` says.

        A batch without outputs needs none: its offset is committed by the ledger.
        """
        partition = batch.partition
        tp = _tp(partition)
        if not batch.emitted:
            if batch.position is not None:
                self._ledger.done(tp.topic, tp.partition, batch.position)
            return
        producer = self._producers.get(tp)
        if producer is None:
            raise OwnershipLost(f"{partition} is open no more")
        self._doubtful.add(tp)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await self._limits.prepare()
                packed = pack(
                    batch.emitted,
                    producer.create_batch,
                    partition.number,
                    partition.topic.partitions,
                    traced=batch.trace is not None,
                )
                offsets = {}
                if batch.position is not None:
                    # The ledger must not commit an earlier position after this one.
                    await self._ledger.take_back(tp)
                    offsets = {tp: batch.position}
                if partition.is_closed:
                    raise OwnershipLost(f"{partition} was given up")
                await producer.commit(packed, self._group, offsets)
        except FAILURES as error:
            if isinstance(error, TOO_LARGE) and self._limits.look_again(batch.emitted):
                raise DeliveryError(f"the limits of topics have changed: {error!r}") from error
            raise translated(error, "writing outputs and offset") from error
        self._doubtful.discard(tp)
        for item in packed:
            self._progress.emitted(item.topic, item.batch.record_count())

    async def keep(self, partitions: Sequence[Partition]) -> None:
        """Close the producers of all other partitions, in the background."""
        kept = {_tp(partition) for partition in partitions}
        for tp in self._producers.keys() - kept:
            self._discard(tp)
        self._doubtful &= kept

    async def on_stop(self) -> None:
        """Close all producers, 5 seconds at most."""
        self._close(self._producers.values())
        self._producers = {}
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_SECONDS)

    def _discard(self, tp: TopicPartition) -> None:
        producer = self._producers.pop(tp, None)
        if producer is not None:
            self._close([producer])

    def _close(self, producers: Iterable[TransactionalProducer]) -> None:
        for producer in producers:
            task = asyncio.create_task(_close(producer), name="close a transactional producer")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _tp(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic.name, partition.number)


async def _close(producer: TransactionalProducer) -> None:
    with contextlib.suppress(kafka_errors.KafkaError, TimeoutError, OSError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await producer.stop()
