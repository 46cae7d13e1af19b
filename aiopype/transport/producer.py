"""Writes events, idempotently; a producer that had an error is thrown away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from mode import Service

from aiopype.errors import BrokerError, DeliveryError, OutputRefused
from aiopype.event import Emitted
from aiopype.graph import Graph
from aiopype.progress import Progress
from aiopype.transport.admin import Admin
from aiopype.transport.outputs import Packed, pack

__all__ = ["Producer"]

logger = logging.getLogger(__name__)

#: An attempt to write a batch of events ends after this; the caller decides what comes next.
SEND_SECONDS = 30.0

#: For the end of a producer that is thrown away: what it still holds counts as failed.
CLOSE_SECONDS = 5.0

#: Size of a record batch: large enough that a fetched megabyte is four requests, small enough for
#: a broker's default limit of 1 MiB a batch.
BATCH_BYTES = 262_144

#: Answers that no second attempt changes.
_FINAL = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidTopicError,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.UnsupportedForMessageFormatError,
)


class Producer(Service):
    """The idempotent producer of a worker.

    After any error its aiokafka producer is replaced: a batch that was refused leaves its
    partition with a gap in the sequence, and every later one fails (no KIP-360 in aiokafka).

    Arguments:
        brokers: `host:port,...`.
        graph: whose topics it writes to; those that are unknown are created first.
        admin: creates them.
        progress: counts what was written.
        security: from `connection_options`.
    """

    logger = logger
    mundane_level = "debug"

    def __init__(
        self,
        brokers: str,
        graph: Graph,
        admin: Admin,
        progress: Progress | None = None,
        *,
        security: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._brokers = brokers
        self._graph = graph
        self._admin = admin
        self._progress = progress or Progress()
        self._security = security or {}
        self._current: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def on_start(self) -> None:
        """Connect."""
        await self._open()

    async def on_stop(self) -> None:
        """Flush and disconnect."""
        current, self._current = self._current, None
        if current is not None:
            await _close(current)
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_SECONDS)

    async def send(
        self, emitted: Sequence[Emitted], partition: int, partitions: int | None = None
    ) -> None:
        """Write events and wait until all of them are acknowledged by all replicas.

        Arguments:
            emitted: the events.
            partition, partitions: as for `pack`.

        Raises:
            OutputRefused: the broker will never take one of them, for example as too large.
            DeliveryError: not acknowledged in 30 s; some of them may be there.
        """
        if not emitted:
            return
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(SEND_SECONDS):
                if self._graph.unresolved:
                    await self._admin.ensure(self._graph.unresolved)
                producer = await self._open()
                packed = pack(emitted, producer.create_batch, partition, partitions)
                await _write(producer, packed)
            for item in packed:
                self._progress.emitted(item.topic, item.batch.record_count())
        except BrokerError as error:  # a topic cannot be created
            raise OutputRefused(str(error)) from error
        except _FINAL as error:
            self._discard(producer)
            raise OutputRefused(f"{type(error).__name__}: {error}") from error
        except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
            self._discard(producer)
            raise DeliveryError(
                f"writing events: {type(error).__name__} {error}".strip()
            ) from error

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._current is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._brokers,
                    enable_idempotence=True,
                    acks="all",
                    linger_ms=0,
                    max_batch_size=BATCH_BYTES,
                    request_timeout_ms=int(SEND_SECONDS * 1000),
                    **self._security,
                )
                try:
                    await producer.start()
                except BaseException:
                    await _close(producer)
                    raise
                self._current = producer
            return self._current

    def _discard(self, producer: AIOKafkaProducer | None) -> None:
        if producer is None or producer is not self._current:
            return
        self._current = None
        task = asyncio.create_task(_close(producer), name="close a failed producer")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _write(producer: AIOKafkaProducer, packed: Sequence[Packed]) -> None:
    futures: list[asyncio.Future[Any]] = []
    try:
        for topic, partition, batch in packed:
            futures.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*futures)
    except BaseException:
        for future in futures:
            future.add_done_callback(_retrieve)
        raise


def _retrieve(future: asyncio.Future[Any]) -> None:
    # One failure has been raised; its companions are known to be lost with it.
    if not future.cancelled():
        future.exception()


async def _close(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await producer.stop()
    except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
        logger.debug("closing a producer: %r", error)
        await producer.client.close()
