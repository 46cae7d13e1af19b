"""Which offsets are done, and their commit: at least once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from aiopype.progress import DeliveryProgress
from aiopype.transport.settings import HEARTBEAT_SECONDS, SESSION_SECONDS

if TYPE_CHECKING:
    from aiopype.transport.batches import Batch
    from aiopype.transport.partition import Partition
    from aiopype.transport.producer import Producer

__all__ = ["AtLeastOnce", "Ledger"]

logger = logging.getLogger(__name__)

#: Pause after a commit: what a killed worker has finished since is done again. Shorter costs more
#: requests on quiet topics; measured under load, 0.1 s is no faster.
COMMIT_SECONDS = 0.02

#: An attempt to commit ends after this; the offsets stay due.
ATTEMPT_SECONDS = 5.0

#: Pause after an attempt without an answer. To the group a commit is a sign of life: a worker that
#: can send and not receive would keep its partitions for ever, so it lets its session pass.
SILENCE_SECONDS = SESSION_SECONDS + HEARTBEAT_SECONDS


class Ledger:
    """Positions up to which everything is done, and those among them that are not committed yet.

    Faust's own is not used: it takes an event for done whose handler raised or was cancelled, and
    believes commits that were refused (docs/adr/0002).

    Attributes:
        committed, failed: how many commits there were that went well, and did not.
    """

    def __init__(self) -> None:
        self.committed = self.failed = 0
        self._due: dict[TopicPartition, int] = {}
        self._under_way: set[TopicPartition] = set()
        self._changed = asyncio.Event()
        self._committing = asyncio.Lock()
        self._is_unanswered = False

    def done(self, topic: str, partition: int, position: int) -> None:
        """Note that everything before `position` is done, its outputs acknowledged."""
        self._due[TopicPartition(topic, partition)] = position
        self._changed.set()

    def forget(self) -> None:
        """Drop what is due: its partitions belong to others now."""
        self._due.clear()

    async def take_back(self, tp: TopicPartition) -> None:
        """Forget what is due of a partition and wait for a commit that is under way."""
        if tp in self._under_way or tp in self._due:
            async with self._committing:
                self._due.pop(tp, None)

    async def keep_committing(self, consumer: Callable[[], AIOKafkaConsumer]) -> None:
        """Commit what is due, again and again, until cancelled."""
        while True:
            await self._changed.wait()
            await self.commit(consumer())
            await asyncio.sleep(SILENCE_SECONDS if self._is_unanswered else COMMIT_SECONDS)

    async def commit(self, consumer: AIOKafkaConsumer) -> bool:
        """Commit what is due; say whether nothing is left. Never raises for a Kafka error."""
        async with self._committing:
            self._changed.clear()
            # A commit that names a partition of another worker is refused as a whole.
            assigned = consumer.assignment()
            due = {tp: offset for tp, offset in self._due.items() if tp in assigned}
            self._due = {}
            if not due:
                return True
            self._under_way = set(due)
            self._is_unanswered = False
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    await consumer.commit({tp: OffsetAndMetadata(o, "") for tp, o in due.items()})
            except (kafka_errors.CommitFailedError, kafka_errors.IllegalStateError) as error:
                self.failed += 1
                logger.warning("%d offsets are not committed, others own them: %s", len(due), error)
                return True
            except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
                self.failed += 1
                self._is_unanswered = isinstance(
                    error, TimeoutError | kafka_errors.RequestTimedOutError
                )
                logger.warning("%d offsets are not committed yet: %r", len(due), error)
                self._due = due | self._due
                self._changed.set()
                return False
            finally:
                self._under_way = set()
            self.committed += 1
            return True


class AtLeastOnce:
    """Outputs first, acknowledged by all replicas; then the offset becomes due.

    Arguments:
        producer: writes the outputs.
        ledger: commits the offsets.
        figures: learns how long it takes.
    """

    trusts_memory = True

    def __init__(
        self, producer: Producer, ledger: Ledger, figures: DeliveryProgress | None = None
    ) -> None:
        self._producer = producer
        self._ledger = ledger
        self._figures = figures or DeliveryProgress()

    async def open(self, partition: Partition) -> None:
        """Nothing to do: no predecessor is fenced, what it still writes may come twice."""

    async def keep(self, partitions: Sequence[Partition]) -> None:
        """Nothing to do: the producer is the worker's."""

    async def deliver(self, batch: Batch) -> None:
        """Make a batch durable; raises as `Delivery` says."""
        partition = batch.partition
        topic = partition.topic
        began = monotonic()
        is_traced = batch.trace is not None
        await self._producer.send(
            batch.emitted, partition.number, topic.partitions, traced=is_traced
        )
        if batch.emitted:
            self._figures.seconds.add(monotonic() - began)
        # A partition that is closed may be another worker's by now.
        if batch.position is not None and not partition.is_closed:
            self._ledger.done(topic.name, partition.number, batch.position)
