"""Which worker runs which source: a consumer group of its own decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as kafka_errors
from mode import Service

from aiopype.errors import DeliveryError, OwnershipLost
from aiopype.ownership import Member, wish_topic
from aiopype.transport.assignor import SourceAssignor
from aiopype.transport.settings import REBALANCE_SECONDS, SESSION_SECONDS

__all__ = ["Election"]

logger = logging.getLogger(__name__)

#: Members learn by the answer to a heartbeat that sources are to be spread anew.
HEARTBEAT_SECONDS = 1.0

#: Without a word of the group for so long a worker stops its sources: before the group's patience,
#: the session, ends and another worker starts them.
LEASE_SECONDS = 0.8 * SESSION_SECONDS

#: An answer this fresh need not be asked for again.
FRESH_SECONDS = 0.5

ANSWER_SECONDS = 5.0

CLOSE_SECONDS = 3.0


class Election(Service):
    """Membership in the group that spreads the sources over the workers.

    A group apart from the data's: a rebalance there does not touch the sources. Sources that stay
    where they are run on through a rebalance of this one: what keeps two owners from writing is the
    transactional id of each source, not the group.

    Arguments:
        brokers: `host:port,...`.
        group: the flow's; topic and group are made of it. The topic exists already.
        member: returns what this worker says of itself when it joins.
        on_assigned: called with the names of this worker's sources, also when they are the same.
        on_lost: called when this worker may not be the owner of any any more; with the reason.
        security: from `connection_options`.
    """

    logger = logger
    mundane_level = "debug"

    def __init__(
        self,
        *,
        brokers: str,
        group: str,
        member: Callable[[], Member],
        on_assigned: Callable[[frozenset[str]], None],
        on_lost: Callable[[str], None],
        security: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._brokers = brokers
        self._security = security or {}
        self._topic = wish_topic(group)
        self._assignor = SourceAssignor(member)
        self._on_assigned = on_assigned
        self._on_lost = on_lost
        self._consumer: Any = None
        self._confirmed_at = 0.0
        self._is_member = False

    @property
    def is_member(self) -> bool:
        """Whether it has had an assignment of the group, and has not lost it."""
        return self._is_member

    async def on_start(self) -> None:
        """Join the group."""
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            group_id=self._topic,
            enable_auto_commit=False,
            partition_assignment_strategy=(self._assignor,),
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
        while not self.should_stop:
            try:
                await self._consumer.getmany(timeout_ms=500)
            except kafka_errors.KafkaError as error:
                if not error.retriable:
                    raise
                logger.warning("the group of the sources: %r", error)
                await self.sleep(1.0)

    @Service.task
    async def _keep_lease(self) -> None:
        while not self.should_stop:
            await self.sleep(HEARTBEAT_SECONDS)
            was_member = self._is_member
            try:
                await self._ask()
            except OwnershipLost as error:
                self.lose(str(error))
            except DeliveryError as error:
                if time.monotonic() - self._confirmed_at > LEASE_SECONDS:
                    self.lose(f"{error}, for {LEASE_SECONDS:g} s")
            else:
                if not was_member and self._coordinator.generation >= 0:
                    self.take(self._assignor.assigned)

    async def on_stop(self) -> None:
        """Leave the group, so that others take over at once; the sources are stopped before."""
        if self._consumer is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._consumer.stop()
            except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
                logger.warning("leaving the sources' group: %r", error)

    def rejoin(self) -> None:
        """Have the sources spread anew: this worker has given some up, or something is wished."""
        if self._consumer is not None and not self.should_stop:
            self._coordinator.request_rejoin()

    async def confirm(self, source: str) -> None:
        """Ask the group whether a source is this worker's, unless it has just said so.

        Raises:
            OwnershipLost: it is not.
            DeliveryError: no answer in 5 s.
        """
        if time.monotonic() - self._confirmed_at > FRESH_SECONDS:
            await self._ask()
        if not self._is_member or source not in self._assignor.assigned:
            raise OwnershipLost(f"source {source} is another worker's, or nobody's for now")

    # --- what the group says

    def take(self, assigned: frozenset[str]) -> None:
        """Note what is this worker's."""
        self._is_member = True
        self._confirmed_at = time.monotonic()
        self._on_assigned(assigned)

    def lose(self, reason: str) -> None:
        """Note that nothing may be this worker's any more."""
        if self._is_member:
            self._is_member = False
            self._on_lost(reason)

    def check_generation(self) -> None:
        """Note a loss where the group has gone on without this worker."""
        if self._coordinator.generation < 0:
            self.lose("the group went on without this worker")

    @property
    def _coordinator(self) -> Any:
        return self._consumer._coordinator

    @property
    def assigned(self) -> frozenset[str]:
        """What the group last assigned to this worker."""
        return self._assignor.assigned

    async def _ask(self) -> None:
        """Ask by a heartbeat whether the group still counts on this worker."""
        coordinator = self._coordinator
        if coordinator.generation < 0:
            raise OwnershipLost("this worker is in no generation of the sources' group")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                is_answered = await coordinator._do_heartbeat()
        except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
            raise DeliveryError(f"asking the sources' group: {error!r}") from error
        if coordinator.generation < 0:
            raise OwnershipLost("the group went on without this worker")
        if not is_answered:
            raise DeliveryError("the sources' group does not answer")
        self._confirmed_at = time.monotonic()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, election: Election) -> None:
        self._election = election

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        self._election.check_generation()

    async def on_partitions_assigned(self, _assigned: Iterable[TopicPartition]) -> None:
        self._election.take(self._election.assigned)
