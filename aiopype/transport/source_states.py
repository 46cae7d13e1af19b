"""Where the sources are, read from the topic that their owners write it to."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka_errors

from aiopype.errors import DeliveryError
from aiopype.ownership import SourceState, state_topic
from aiopype.topics import Topic, TopicSpec
from aiopype.transport.closing import stop_consumer
from aiopype.transport.outputs import partition_of
from aiopype.transport.transactions import TRANSACTION_SECONDS

__all__ = ["STATE_CONFIGS", "SourceStates", "new_state_topic"]

logger = logging.getLogger(__name__)

#: Sources of one partition wait for each other's open transactions, and are read together.
PARTITIONS = 16

#: For reading partitions to their ends; an open transaction of a dead worker is the longest wait.
READ_SECONDS = TRANSACTION_SECONDS + 10.0

#: Kafka's settings: a megabyte of old states at most is read when a source moves.
STATE_CONFIGS = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.bytes": "1048576",
    "segment.ms": "600000",
    "delete.retention.ms": "86400000",
}


def new_state_topic(group: str, replication: int | None = None) -> Topic:
    """Return the topic of the states of a flow's sources."""
    name = state_topic(group)
    spec = TopicSpec(PARTITIONS, replication, STATE_CONFIGS, name)
    return Topic(name, "state", spec)


class SourceStates:
    """Reads states, those that are wanted at the same time together.

    Arguments:
        brokers: `host:port,...`.
        topic: from `new_state_topic`; it exists when something is read.
        security: from `connection_options`.
    """

    def __init__(
        self, brokers: str, topic: Topic, security: Mapping[str, Any] | None = None
    ) -> None:
        self.topic = topic
        self._brokers = brokers
        self._security = security or {}
        self._wanted: list[tuple[str, asyncio.Future[SourceState | None]]] = []
        self._reading: asyncio.Task[None] | None = None

    async def read(self, source: str) -> SourceState | None:
        """Return where a source is, by all that was durable when this was called.

        Fence its last owner first: what that one has not committed by then it never will.

        Raises:
            StateCorrupt: what is stored cannot be read.
            DeliveryError: no answer, or not all of it in 25 s.
        """
        future: asyncio.Future[SourceState | None] = asyncio.get_running_loop().create_future()
        self._wanted.append((source, future))
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_wanted(), name="read states of sources")
        return await future

    async def stop(self) -> None:
        """End a reading that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read_wanted(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, []
            try:
                async with asyncio.timeout(READ_SECONDS):
                    values = await self._read({source for source, _ in wanted})
            except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
                failure = DeliveryError(f"reading the states of sources: {error!r}")
                _settle(wanted, dict.fromkeys((source for source, _ in wanted), failure))
            except BaseException:
                for _, future in wanted + self._wanted:
                    future.cancel()
                raise
            else:
                _settle(wanted, values)

    async def _read(self, sources: Iterable[str]) -> dict[str, SourceState | Exception | None]:
        by_place: dict[TopicPartition, list[str]] = defaultdict(list)
        for source in sources:
            number = partition_of(source.encode(), self.topic.partitions or PARTITIONS)
            by_place[TopicPartition(self.topic.name, number)].append(source)
        values = await self._records(list(by_place))
        found: dict[str, SourceState | Exception | None] = {}
        for source in sources:
            raw = source.encode()
            try:
                found[source] = SourceState.decode(source, values[raw]) if raw in values else None
            except Exception as error:  # noqa: BLE001 - it is the one's who asked for it
                found[source] = error
        return found

    async def _records(self, places: list[TopicPartition]) -> dict[bytes, bytes | None]:
        """Return the last value of each key of these partitions."""
        async with AsyncExitStack() as opened:
            # The end for readers of committed records alone is where the oldest transaction that
            # is open begins: behind it there may be what is committed already.
            ends = await (await self._consumer(opened, "read_uncommitted")).end_offsets(places)
            consumer = await self._consumer(opened, "read_committed")
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            values: dict[bytes, bytes | None] = {}
            for place in places:
                while await consumer.position(place) < ends[place]:
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        values.update((record.key, record.value) for record in records)
            return values

    async def _consumer(self, opened: AsyncExitStack, isolation: str) -> Any:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=isolation,
            **self._security,
        )
        opened.push_async_callback(stop_consumer, consumer)
        await consumer.start()
        return consumer


def _settle(
    wanted: Iterable[tuple[str, asyncio.Future[SourceState | None]]],
    values: Mapping[str, SourceState | Exception | None],
) -> None:
    for source, future in wanted:
        value = values[source]
        if future.done():
            continue  # whoever asked was cancelled
        if isinstance(value, Exception):
            future.set_exception(value)
        else:
            future.set_result(value)
