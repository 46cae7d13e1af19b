"""Asks now and then for what no fetch tells: ends of partitions, lengths of `error` topics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.structs import TopicPartition
from mode import Service

from aiopype.graph import Graph
from aiopype.progress import Progress
from aiopype.topics import ERROR
from aiopype.transport.closing import stop_consumer

__all__ = ["Offsets"]

logger = logging.getLogger(__name__)

#: Between two looks. Prometheus asks every 15 s or more.
LOOK_SECONDS = 10.0

#: For one question to all brokers that are concerned.
ANSWER_SECONDS = 5.0

#: The end of a partition that is fetched is heard of twice a second.
FRESH_SECONDS = 5.0

#: For the end of the consumer.
CLOSE_SECONDS = 3.0

#: The last is of the flow's consumer, which stops before this does.
_FAILURES = (
    kafka_errors.KafkaError,
    TimeoutError,
    OSError,
    kafka_errors.ConsumerStoppedError,
)


class Offsets(Service):
    """Keeps lag fresh where nothing is fetched, and knows how many dead letters are stored.

    A partition is not fetched while its manager is down, its parking is full, or its handlers are
    slow. Where brokers do not answer, what is known of lag stays and nothing is said of dead
    letters; that brokers are out of reach is told elsewhere.

    Arguments:
        brokers: `host:port,...`.
        graph: knows the components' `error` topics.
        progress: gets what is heard.
        committed: asks the flow's group how far a partition is handled, None if nobody has said;
            raises a KafkaError.
        security: from `connection_options`.
    """

    logger = logger
    mundane_level = "debug"

    def __init__(
        self,
        brokers: str,
        graph: Graph,
        progress: Progress,
        committed: Callable[[str, int], Awaitable[int | None]],
        *,
        security: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._brokers = brokers
        self._graph = graph
        self._progress = progress
        self._committed = committed
        self._security = security or {}
        self._consumer: Any = None

    @Service.task
    async def _keep_looking(self) -> None:
        while not self.should_stop:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Ask once. It never raises: a worker does not end because its figures are not known."""
        for ask in (self._ask_for_ends, self._ask_for_dead_letters):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await ask(await self._connected())
            except _FAILURES as error:
                logger.debug("asking for offsets: %r", error)
            except Exception:
                logger.exception("asking for offsets")

    async def on_stop(self) -> None:
        """Disconnect, 3 seconds at most."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _close(consumer)

    async def _connected(self) -> Any:
        if self._consumer is None:
            # In no group, with connections of its own: an answer to the fetches of the worker's
            # consumer may take half a second, and requests of one connection wait for each other.
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._brokers,
                enable_auto_commit=False,
                isolation_level="read_committed",
                request_timeout_ms=int(ANSWER_SECONDS * 1000),
                **self._security,
            )
            try:
                await consumer.start()
            except BaseException:
                await _close(consumer)
                raise
            self._consumer = consumer
        return self._consumer

    async def _ask_for_ends(self, consumer: Any) -> None:
        progress = self._progress
        unheard = {TopicPartition(t, n): found for t, n, found in progress.unheard(FRESH_SECONDS)}
        ends = await consumer.end_offsets(list(unheard))
        for place, partition in unheard.items():
            if place not in ends:  # a topic of a format before Kafka 0.10
                continue
            position = partition.position
            if position is None:  # its manager was down already when it was assigned
                position = await self._begin_of(consumer, place)
            if progress.topics[place.topic].partitions.get(place.partition) is partition:
                end = ends[place]
                position = end if position is None else position
                progress.fetched(place.topic, place.partition, position, end)

    async def _begin_of(self, consumer: Any, place: TopicPartition) -> int | None:
        """Return where a partition goes on that has not been fetched; None is its end."""
        committed = await self._committed(place.topic, place.partition)
        if committed is not None:
            return committed
        if place.topic in {t.name for t, _ in self._graph.subscribed() if t.begins_at_end}:
            return None
        begins: dict[TopicPartition, int] = await consumer.beginning_offsets([place])
        return begins[place]

    async def _ask_for_dead_letters(self, consumer: Any) -> None:
        stored = self._progress.dead_letters
        places = {
            topic.component: [TopicPartition(topic.name, n) for n in range(topic.partitions)]
            for topic in self._graph.topics()
            if topic.event == ERROR and topic.partitions
        }
        wanted = list(chain.from_iterable(places.values()))
        try:
            begins = await consumer.beginning_offsets(wanted)
            ends = await consumer.end_offsets(wanted)
        except BaseException:
            stored.clear()
            raise
        for component, own in places.items():
            stored[component] = sum(ends[place] - begins[place] for place in own)


async def _close(consumer: Any) -> None:
    with contextlib.suppress(*_FAILURES):
        async with asyncio.timeout(CLOSE_SECONDS):
            await stop_consumer(consumer)
