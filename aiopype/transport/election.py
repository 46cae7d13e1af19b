"""Which worker runs the flow's sources: the one that owns the partition of a control topic."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as kafka_errors
from mode import Service

from aiopype.transport.admin import Admin
from aiopype.transport.settings import HEARTBEAT_SECONDS, REBALANCE_SECONDS, SESSION_SECONDS

__all__ = ["Election"]

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 3.0


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, election: Election) -> None:
        self._election = election

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if list(revoked):
            await self._election.lose()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        if list(assigned):
            await self._election.win()


class Election(Service):
    """A consumer group of its own on a topic of one partition and no records.

    A group apart from the data's: a rebalance there does not stop the sources. The owner's claim
    ends with its session (10 s after it stopped answering); what it still writes then is not
    refused yet, that comes with fenced sources.

    Arguments:
        brokers: `host:port,...`.
        flow: the flow's name; group and topic are `<flow>.sources`.
        admin: creates the topic.
        on_win: awaited when this worker becomes the owner.
        on_lose: awaited when it is no longer; it has until the rebalance's end.
        security: from `connection_options`.
    """

    logger = logger
    mundane_level = "debug"

    def __init__(
        self,
        *,
        brokers: str,
        flow: str,
        admin: Admin,
        on_win: Callable[[], Awaitable[None]],
        on_lose: Callable[[], Awaitable[None]],
        security: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._brokers = brokers
        self._security = security or {}
        self._topic = f"{flow}.sources"
        self._admin = admin
        self._on_win = on_win
        self._on_lose = on_lose
        self._consumer: AIOKafkaConsumer | None = None
        self.is_owner = False

    async def on_start(self) -> None:
        """Join the group."""
        if not await self._admin.partitions([self._topic]):
            await self._admin.create([self._topic], partitions=1)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            group_id=self._topic,
            enable_auto_commit=False,
            session_timeout_ms=int(SESSION_SECONDS * 1000),
            heartbeat_interval_ms=int(HEARTBEAT_SECONDS * 1000),
            rebalance_timeout_ms=int(REBALANCE_SECONDS * 1000),
            **self._security,
        )
        self._consumer.subscribe([self._topic], listener=_Listener(self))
        await self._consumer.start()

    @Service.task
    async def _poll(self) -> None:
        # A consumer that does not poll is put out of its group; errors of the group are raised
        # here and nowhere else.
        assert self._consumer is not None
        while not self.should_stop:
            try:
                await self._consumer.getmany(timeout_ms=500)
            except kafka_errors.KafkaError as error:
                if not error.retriable:
                    raise
                logger.warning("election of the sources' owner: %r", error)
                await self.sleep(1.0)

    async def on_stop(self) -> None:
        """Stop the sources if they run here, then leave the group so that another takes over."""
        await self.lose()
        if self._consumer is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._consumer.stop()
            except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
                logger.warning("leaving the sources' group: %r", error)

    async def win(self) -> None:
        """Become the owner."""
        if not self.is_owner and not self.should_stop:
            self.is_owner = True
            await self._on_win()

    async def lose(self) -> None:
        """Be the owner no longer."""
        if self.is_owner:
            self.is_owner = False
            await self._on_lose()
