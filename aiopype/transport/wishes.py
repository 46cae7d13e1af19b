"""What operators wish of the sources, followed as it is written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka_errors
from mode import Service

from aiopype.errors import BrokerError
from aiopype.ownership import Wish, wish_topic
from aiopype.transport.admin import Admin
from aiopype.transport.closing import stop_consumer
from aiopype.transport.settings import REQUEST_SECONDS

__all__ = ["WISH_CONFIGS", "Wishes"]

logger = logging.getLogger(__name__)

#: For all that is wished at the start of a worker.
READ_SECONDS = 20.0

CLOSE_SECONDS = 3.0

#: After an error of the brokers.
AGAIN_SECONDS = 1.0

#: Kafka's settings of the topic.
WISH_CONFIGS = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}


class Wishes(Service):
    """Reads the topic of wishes from its beginning to its end, then follows it.

    Arguments:
        brokers: `host:port,...`.
        group: the flow's; the topic is made of it.
        admin: creates the topic.
        on_change: called after the beginning has been read, whenever something is wished.
        security: from `connection_options`.

    Attributes:
        of: what is wished, by source; of others nothing is.
        position: the offset up to which the topic was read.
    """

    logger = logger
    mundane_level = "debug"

    def __init__(
        self,
        *,
        brokers: str,
        group: str,
        admin: Admin,
        on_change: Callable[[], None],
        security: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._brokers = brokers
        self._security = security or {}
        self._place = TopicPartition(wish_topic(group), 0)
        self._admin = admin
        self._on_change = on_change
        self._consumer: Any = None
        self.of: dict[str, Wish] = {}
        self.position = 0

    @property
    def pins(self) -> dict[str, str]:
        """Where sources are wanted that are wanted somewhere."""
        return {name: wish.worker for name, wish in self.of.items() if wish.worker is not None}

    async def on_start(self) -> None:
        """Create the topic and read what it has.

        Raises:
            BrokerError: it cannot be read in 20 s.
        """
        topic = self._place.topic
        if not await self._admin.partitions([topic]):
            await self._admin.create([topic], partitions=1, configs=WISH_CONFIGS)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            **self._security,
        )
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._consumer.start()
                self._consumer.assign([self._place])
                await self._consumer.seek_to_beginning(self._place)
                end = (await self._consumer.end_offsets([self._place]))[self._place]
                while self.position < end:
                    await self._read()
        except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
            raise BrokerError(f"reading what is wished of sources: {error!r}") from error

    @Service.task
    async def _follow(self) -> None:
        while not self.should_stop:
            try:
                if await self._read():
                    self._on_change()
            except (kafka_errors.KafkaError, OSError) as error:
                logger.warning("following what is wished of sources: %r", error)
                await self.sleep(AGAIN_SECONDS)

    async def on_stop(self) -> None:
        """Disconnect."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._consumer is not None:
                    await stop_consumer(self._consumer)
        except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
            logger.debug("closing the reader of wishes: %r", error)

    async def _read(self) -> bool:
        """Take in what has come; say whether anything has."""
        found = (await self._consumer.getmany(self._place, timeout_ms=500)).get(self._place, [])
        for record in found:
            self.of[(record.key or b"").decode(errors="replace")] = Wish.decode(record.value)
        self.position = await self._consumer.position(self._place)
        return bool(found)
