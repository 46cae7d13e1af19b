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
from aiopype.progress import Progress
from aiopype.transport.limits import Limits
from aiopype.transport.outputs import BATCH_BYTES, Packed, pack

__all__ = ["CLOSE_SECONDS", "FINAL", "TOO_LARGE", "Producer", "close", "retrieve", "write"]

logger = logging.getLogger(__name__)

#: An attempt to write a batch of events ends after this; the caller decides what comes next.
SEND_SECONDS = 30.0

#: For the end of a producer that is thrown away: what it still holds counts as failed.
CLOSE_SECONDS = 5.0

#: Answers to a record batch that is larger than its topic takes.
TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)

#: Answers that no second attempt changes.
FINAL = (
    *TOO_LARGE,
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
        limits: makes sure that the topics written to exist, and knows what they take.
        progress: counts what was written.
        security: from `connection_options`.
    """

    logger = logger
    mundane_level = "debug"

    def __init__(
        self,
        brokers: str,
        limits: Limits,
        progress: Progress | None = None,
        *,
        security: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._brokers = brokers
        self._limits = limits
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
            await close(current)
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_SECONDS)

    async def send(
        self,
        emitted: Sequence[Emitted],
        partition: int,
        partitions: int | None = None,
        *,
        traced: bool = False,
    ) -> None:
        """Write events and wait until all of them are acknowledged by all replicas.

        Arguments:
            emitted: the events.
            partition, partitions, traced: as for `pack`.

        Raises:
            OutputRefused: the broker will never take one of them, for example as too large.
            DeliveryError: not acknowledged in 30 s; some of them may be there.
        """
        if not emitted:
            return
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._limits.prepare()
                producer = await self._open()
                packed = pack(emitted, producer.create_batch, partition, partitions, traced=traced)
                await write(producer, packed)
            for item in packed:
                self._progress.emitted(item.topic, item.batch.record_count())
        except BrokerError as error:  # a topic cannot be created
            raise OutputRefused(str(error)) from error
        except FINAL as error:
            self._discard(producer)
            if isinstance(error, TOO_LARGE) and self._limits.look_again(emitted):
                raise DeliveryError(f"the limits of topics have changed: {error!r}") from error
            raise OutputRefused(f"{type(error).__name__}: {error}") from error
        except (kafka_errors.KafkaError, TimeoutError, OSError, AssertionError) as error:
            # AssertionError: a partition that this producer does not know of yet.
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
                    await close(producer)
                    raise
                self._current = producer
            return self._current

    def _discard(self, producer: AIOKafkaProducer | None) -> None:
        if producer is None or producer is not self._current:
            return
        self._current = None
        task = asyncio.create_task(close(producer), name="close a failed producer")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def write(producer: AIOKafkaProducer, packed: Sequence[Packed]) -> None:
    """Send record batches and wait until all of them are acknowledged; raises a KafkaError."""
    futures: list[asyncio.Future[Any]] = []
    try:
        for topic, partition, batch in packed:
            futures.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*futures)
    except BaseException:
        for future in futures:
            future.add_done_callback(retrieve)
        raise


def retrieve(future: asyncio.Future[Any]) -> None:
    """Look at what a future raised: its companion's failure has been raised in its place."""
    if not future.cancelled():
        future.exception()


async def close(producer: AIOKafkaProducer) -> None:
    """Disconnect a producer, 5 seconds at most; never raises for a Kafka error."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await producer.stop()
    except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
        logger.debug("closing a producer: %r", error)
        await producer.client.close()
