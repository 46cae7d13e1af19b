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
from aiopype.transport.closing import stop_consumer
from aiopype.transport.heartbeat import ask_group
from aiopype.transport.producer import retrieve
from aiopype.transport.refusals import refused_group
from aiopype.transport.settings import REBALANCE_SECONDS, SESSION_SECONDS

__all__ = ["Election"]

logger = logging.getLogger(__name__)

#: Members learn by the answer to a heartbeat that sources are to be spread anew.
HEARTBEAT_SECONDS = 1.0

#: Without a word of the group for so long a worker stops its sources: before the group's patience,
#: the session, ends and another worker starts them.
LEASE_SECONDS = 0.8 * SESSION_SECONDS

ANSWER_SECONDS = 5.0

#: An answer this fresh need not be asked for again.
FRESH_SECONDS = 0.5

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

    Attributes:
        rebalances: how often the group has spread the sources anew since this worker joined.
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
        self._member = member
        self._assignor = SourceAssignor(self._tell)
        self._on_assigned = on_assigned
        self._on_lost = on_lost
        self._consumer: Any = None
        self._confirmed_at = self._member_since = 0.0
        self.rebalances = 0
        self._asking: asyncio.Task[bool] | None = None
        self._is_member = False
        self._generation = -1
        self._has_news = False

    @property
    def is_member(self) -> bool:
        """Whether it has had an assignment of the group, and has not lost it."""
        return self._is_member

    async def on_start(self) -> None:
        """Join the group.

        Raises:
            BrokerError: this client may not be a member.
        """
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
        try:
            await self._consumer.start()
        except kafka_errors.GroupAuthorizationFailedError as error:
            raise refused_group(self._topic) from error

    @Service.task
    async def _poll(self) -> None:
        # A consumer that does not poll is put out of its group; errors of the group are raised
        # here and nowhere else.
        while not self.should_stop:
            try:
                await self._consumer.getmany(timeout_ms=500)
            except kafka_errors.GroupAuthorizationFailedError as error:
                raise refused_group(self._topic) from error
            except kafka_errors.KafkaError as error:
                if not error.retriable:
                    raise
                logger.warning("the group of the sources: %r", error)
                await self.sleep(1.0)

    @Service.task
    async def _keep_lease(self) -> None:
        while not self.should_stop:
            await self.sleep(HEARTBEAT_SECONDS)
            asked = self._ask()
            left = max(self._confirmed_at, self._member_since) + LEASE_SECONDS - time.monotonic()
            await asyncio.wait([asked], timeout=max(0.0, left) if self._is_member else None)
            if not asked.done():
                self.lose(f"the group has not answered for {LEASE_SECONDS:g} s")
                # No second question before there is an answer: to the group each is a sign of life,
                # also of a worker that hears nothing.
                await asyncio.wait([asked])
            error = asked.exception()
            if error is None:
                # Of the next generation nothing is assigned yet when it is only joined.
                is_latest = self._coordinator.generation == self._generation
                if asked.result() and is_latest and not self._is_member:
                    self.take(self._assignor.assigned)
            elif isinstance(error, OwnershipLost) or left <= 0:
                self.lose(str(error))

    async def on_stop(self) -> None:
        """Leave the group, so that others take over at once; the sources are stopped before."""
        if self._asking is not None:
            self._asking.cancel()
        if self._consumer is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await stop_consumer(self._consumer)
            except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
                logger.warning("leaving the sources' group: %r", error)

    def rejoin(self) -> None:
        """Have the sources spread anew: this worker has given some up, or something is wished."""
        self._has_news = True
        if self._consumer is not None and self._coordinator is not None and not self.should_stop:
            self._coordinator.request_rejoin()

    def _tell(self) -> Member:
        self._has_news = False
        return self._member()

    async def confirm(self, source: str) -> None:
        """Ask the group whether a source is this worker's, unless it has just said so.

        Raises:
            OwnershipLost: it is not.
            DeliveryError: no answer in 5 s.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while time.monotonic() - self._confirmed_at > FRESH_SECONDS:
                    await asyncio.shield(self._ask())
        except TimeoutError as error:
            raise DeliveryError(f"asking the group: no answer in {ANSWER_SECONDS:g} s") from error
        if not self._is_member or source not in self._assignor.assigned:
            raise OwnershipLost(f"source {source} is another worker's, or nobody's for now")

    # --- what the group says

    def take(self, assigned: frozenset[str]) -> None:
        """Note what is this worker's."""
        self._generation = self._coordinator.generation
        if not self._is_member:
            self._is_member = True
            self._member_since = time.monotonic()
        self._on_assigned(assigned)
        if self._has_news:
            # aiokafka forgets what asks it to join while it does, and the news were not told then.
            self.rejoin()

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

    def _ask(self) -> asyncio.Task[bool]:
        """Ask whether the group counts on this worker, unless that has been asked already."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._answer(), name="ask the sources' group")
            self._asking.add_done_callback(retrieve)
        return self._asking

    async def _answer(self) -> bool:
        # The answer may have waited while this process was frozen: what counts is when it was
        # asked for.
        asked_at = time.monotonic()
        is_current = await ask_group(self._coordinator)
        self._confirmed_at = asked_at
        return is_current


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, election: Election) -> None:
        self._election = election

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        self._election.check_generation()

    async def on_partitions_assigned(self, _assigned: Iterable[TopicPartition]) -> None:
        self._election.rebalances += 1
        self._election.take(self._election.assigned)
