"""The Faust transport: what its consumer and agents share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from yarl import URL

from aiopype.graph import Graph, Subscription, manager_of
from aiopype.progress import Progress
from aiopype.tracing import Traceable
from aiopype.transport import consumer
from aiopype.transport.batches import Delivery, Feed
from aiopype.transport.ledger import Ledger
from aiopype.transport.parked_topics import ParkedTopics
from aiopype.transport.parking import Parking
from aiopype.transport.partition import Partition
from aiopype.transport.traced import Traced

__all__ = ["Managers", "Transport"]


class Managers(Protocol):
    """What the transport needs of who watches the managers."""

    def fail(self, manager: str, error: BaseException, what: str) -> None:
        """Take note that a manager cannot go on; `what` is a sentence that says where and why."""

    def is_running(self, manager: str) -> bool:
        """Say whether its topics are to be fetched."""


class Transport(driver.Transport):
    """Connects a Faust app to Kafka by whole batches.

    Arguments:
        url, app: as for any Faust transport.
        graph: the flow; its subscribed topics are those that are consumed.
        deliveries: what makes batches durable, by manager.
        ledger: commits offsets.
        parked: the topics of waiting events.
        managers: who watches them.

    Attributes:
        channels: the queue of each subscription's agent, by subscription.
        progress: how far the partitions are; hosting puts the flow's here.
        security: from `connection_options`; hosting puts the flow's here.
        traced: has what makes spans, if anything does; hosting puts the flow's protocol here.
    """

    Consumer: ClassVar[type[Any]] = consumer.Consumer

    def __init__(
        self,
        url: list[URL],
        app: Any,
        graph: Graph,
        deliveries: Mapping[str, Delivery],
        ledger: Ledger,
        parked: ParkedTopics,
        managers: Managers,
    ) -> None:
        super().__init__(url, app)
        self.ledger = ledger
        self.channels: dict[Subscription, Any] = {}
        self.progress = Progress()
        self.security: Mapping[str, Any] = {}
        self.traced: Traceable | None = None
        self._topics = {topic.name: topic for topic, _ in graph.subscribed()}
        self._graph = graph
        self._deliveries = deliveries
        self._parked = parked
        self._managers = managers

    def new_partition(self, tp: TP, feed: Feed) -> Partition | None:
        """Return the state of a partition that was assigned; None for a topic not ours."""
        topic = self._topics.get(tp.topic)
        if topic is None:
            return None
        self.progress.assign(*tp)
        if topic.partitions is not None and tp.partition >= topic.partitions:
            self._graph.unresolved.add(topic)  # partitions were added: their number is asked anew
        manager = manager_of(topic.component)
        parking = Parking(
            self._parked.topic(topic),
            tp.partition,
            self._graph.subscriptions(topic),
            self._parked,
        )
        delivery = self._deliveries[manager]
        tracing = None if self.traced is None else self.traced.tracing
        partition = Partition(
            topic,
            tp.partition,
            feed,
            delivery if tracing is None else Traced(delivery),
            parking,
            lambda error, what: self._managers.fail(manager, error, what),
            self.progress,
        )
        partition.tracing = tracing
        return partition

    async def keep(self, partitions: Iterable[Partition]) -> None:
        """Let the deliveries let go of partitions that are not assigned any more."""
        kept: dict[Delivery, list[Partition]] = {d: [] for d in self._deliveries.values()}
        for partition in partitions:
            kept[self._deliveries[manager_of(partition.topic.component)]].append(partition)
        for delivery, its_own in kept.items():
            await delivery.keep(its_own)

    def note_ends(self, consumer: Any, fetched: Iterable[TP]) -> None:
        """Note where the logs of these partitions end, as the answers to fetches said.

        What is in open transactions is not lag: it cannot be read yet, and may never be.
        """
        assignment = consumer._subscription.subscription.assignment
        for tp in fetched:
            state = assignment.state_value(tp)
            if state is not None and state.has_valid_position:
                self.progress.fetched(*tp, state.position, state.lso)

    def is_stopped(self, partition: Partition) -> bool:
        """Say whether the manager of a partition has been stopped."""
        return not self._managers.is_running(manager_of(partition.topic.component))

    def topics_of(self, manager: str) -> list[str]:
        """Return the names of the consumed topics of a manager."""
        return [n for n, topic in self._topics.items() if manager_of(topic.component) == manager]

    def agent(self, subscription: Subscription) -> Callable[[Any], Any]:
        """Return the body of the Faust agent of a subscription.

        It takes batches in order of arrival, each to its end. Faust runs as many of it as the
        topic has partitions, on one queue, so that partitions proceed independently; a partition
        never has two batches in the queue.
        """
        index = self._graph.subscriptions(subscription.topic).index(subscription)

        async def handle(stream: Any) -> None:
            self.channels[subscription] = stream.channel
            events: AsyncIterator[Any] = stream.noack().events()
            async for event in events:
                batch = event.value
                await batch.partition.run(batch, index)

        return handle
