"""The topics of waiting events: one beside each topic, of which an event has ever had to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka_errors

from aiopype.errors import DeliveryError
from aiopype.graph import Graph
from aiopype.topics import LARGEST_BYTES, Topic, TopicSpec, parked_name
from aiopype.transport.admin import Admin
from aiopype.transport.closing import stop_consumer

__all__ = ["ParkedTopics"]

#: For reading the waiting events of a partition; there are 10,000 at most, and what compaction
#: has not removed yet.
READ_SECONDS = 60.0

#: Partitions that are read at once, each by a consumer of its own.
READING = 8

#: Kafka's settings: removed events go soon, so that little is read when a partition moves.
CONFIGS = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": "600000",
    "delete.retention.ms": "600000",
}


class ParkedTopics:
    """Knows the topics of waiting events and reads them; they are made when they are needed.

    Arguments:
        brokers: `host:port,...`.
        graph: gets to know the topics, so that they are created before they are written to.
        admin: says whether they exist.
        security: from `connection_options`.
    """

    def __init__(
        self, brokers: str, graph: Graph, admin: Admin, security: Mapping[str, Any] | None = None
    ) -> None:
        self._brokers = brokers
        self._graph = graph
        self._admin = admin
        self._security = security or {}
        self._topics: dict[Topic, Topic] = {}
        self._reading = asyncio.Semaphore(READING)

    def topic(self, of: Topic) -> Topic:
        """Return the topic of the waiting events of a topic: `<topic>.parked`."""
        if of not in self._topics:
            # Twice the limit of the other: an entry is a little larger than its event.
            configs = CONFIGS | {"max.message.bytes": str(2 * max(LARGEST_BYTES, of.largest))}
            spec = TopicSpec(of.partitions, of.spec.replication, configs, parked_name(of.own_name))
            topic = self._topics[of] = Topic(of.component, f"{of.event}.parked", spec)
            topic.follows = True
        return self._topics[of]

    def need(self, topic: Topic) -> None:
        """Have the topic made before something is written to it."""
        if topic.partitions is None:
            self._graph.unresolved.add(topic)

    async def read(self, topic: Topic, partition: int) -> list[tuple[bytes, bytes | None]]:
        """Return key and value of every record of a partition; nothing if there is no topic.

        Raises:
            DeliveryError: no answer, or not all of it in 60 s.
        """
        try:
            if topic.partitions is None or partition >= topic.partitions:
                found = await self._admin.partitions([topic.name])
                if topic.name not in found:
                    return []
                wanted = max(topic.spec.partitions or 0, partition + 1)
                await self._admin.grow(topic.name, found[topic.name], wanted)
                await self._admin.ensure({topic})
            async with self._reading, asyncio.timeout(READ_SECONDS):
                return await self._read(TopicPartition(topic.name, partition))
        except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
            raise DeliveryError(f"reading events that wait: {error!r}") from error

    async def _read(self, tp: TopicPartition) -> list[tuple[bytes, bytes | None]]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            **self._security,
        )
        try:
            await consumer.start()
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            end = (await consumer.end_offsets([tp]))[tp]
            records: list[tuple[bytes, bytes | None]] = []
            while await consumer.position(tp) < end:
                for found in (await consumer.getmany(timeout_ms=200)).values():
                    records += [(record.key, record.value) for record in found]
            return records
        finally:
            await stop_consumer(consumer)
