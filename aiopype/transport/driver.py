"""The Faust transport: what its consumer and agents share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, ClassVar

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from yarl import URL

from aiopype.graph import Graph, Subscription, manager_of
from aiopype.progress import Progress
from aiopype.transport import consumer
from aiopype.transport.ledger import Ledger
from aiopype.transport.partition import Delivery, Feed, Partition

__all__ = ["Transport"]


class Transport(driver.Transport):
    """Connects a Faust app to Kafka by whole batches.

    Arguments:
        url, app: as for any Faust transport.
        graph: the flow; its subscribed topics are those that are consumed.
        delivery, ledger: make batches durable.
        fail: called with manager, error and a sentence when a manager cannot go on.
        is_running: says whether a manager still runs.

    Attributes:
        channels: the queue of each subscription's agent, by subscription.
        progress: how far the partitions are; hosting puts the flow's here.
        security: from `connection_options`; hosting puts the flow's here.
    """

    Consumer: ClassVar[type[Any]] = consumer.Consumer

    def __init__(
        self,
        url: list[URL],
        app: Any,
        graph: Graph,
        delivery: Delivery,
        ledger: Ledger,
        fail: Callable[[str, Exception, str], None],
        is_running: Callable[[str], bool],
    ) -> None:
        super().__init__(url, app)
        self.ledger = ledger
        self.channels: dict[Subscription, Any] = {}
        self.progress = Progress()
        self.security: Mapping[str, Any] = {}
        self._topics = {topic.name: topic for topic, _ in graph.subscribed()}
        self._graph = graph
        self._delivery = delivery
        self._fail = fail
        self._is_running = is_running

    def new_partition(self, tp: TP, feed: Feed) -> Partition | None:
        """Return the state of a partition that was assigned; None for a topic not ours."""
        topic = self._topics.get(tp.topic)
        if topic is None:
            return None
        self.progress.assign(*tp)
        manager = manager_of(topic.component)
        return Partition(
            topic,
            tp.partition,
            self._graph.subscriptions(topic),
            feed,
            self._delivery,
            lambda error, what: self._fail(manager, error, what),
        )

    def note_ends(self, consumer: Any, fetched: Iterable[TP]) -> None:
        """Note where the logs of these partitions end, as the answers to fetches said."""
        assignment = consumer._subscription.subscription.assignment
        for tp in fetched:
            state = assignment.state_value(tp)
            if state is not None and state.has_valid_position:
                self.progress.fetched(*tp, state.position, state.highwater)

    def is_stopped(self, partition: Partition) -> bool:
        """Say whether the manager of a partition has been stopped."""
        return not self._is_running(manager_of(partition.topic.component))

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
