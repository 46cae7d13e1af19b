"""What reads, when Prometheus asks, how far the partitions of a worker are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from aiopype.graph import Graph, Subscription
from aiopype.metrics.families import gauge, parts
from aiopype.progress import Progress, TopicProgress
from aiopype.topics import Topic

__all__ = ["Owned", "PartitionCollector"]


class Owned(Protocol):
    """What is asked of a partition that belongs to this worker; the transport's is the one.

    Attributes:
        topic: the event's.
    """

    topic: Topic

    @property
    def busy_since(self) -> float | None:
        """When the batch in work began, on the monotonic clock; None without one."""

    @property
    def parked(self) -> Iterable[tuple[Subscription, int]]:
        """How many events of each subscription wait to be tried again."""


class PartitionCollector(Collector):
    """Lag, batches in work and waiting events; a partition's series vanish with the partition.

    Arguments:
        flow: the flow's name.
        graph: knows the events.
        progress: knows how far the partitions are.
        owned: returns the partitions of this worker.
        clock: seconds since 1970.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        flow: str,
        graph: Graph,
        progress: Progress,
        owned: Callable[[], Iterable[Owned]],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flow = flow
        self._graph = graph
        self._progress = progress
        self._owned = owned
        self._clock = clock
        self._monotonic = monotonic

    def collect(self) -> Iterator[Metric]:
        """Read them."""
        yield from self._far()
        yield from self._busy()

    def _far(self) -> Iterable[Metric]:
        records, seconds = gauge("aiopype_lag_records"), gauge("aiopype_lag_seconds")
        assigned = gauge("aiopype_assigned_partitions")
        now = self._clock()
        for topic, _ in self._graph.subscribed():
            of = [self._flow, *parts(topic.component), topic.event]
            partitions = self._progress.topics.get(topic.name, TopicProgress()).partitions
            assigned.add_metric(of, len(partitions))
            for number, partition in sorted(partitions.items()):
                lag, late = partition.lag, partition.lag_seconds(now)
                if lag is not None and late is not None:
                    records.add_metric([*of, str(number)], lag)
                    seconds.add_metric([*of, str(number)], late)
        return records, seconds, assigned

    def _busy(self) -> Iterable[Metric]:
        age, parked = gauge("aiopype_batch_age_seconds"), gauge("aiopype_parked_events")
        now = self._monotonic()
        ages: dict[Topic, float] = {}
        waiting: Counter[str] = Counter()
        for partition in self._owned():
            if partition.busy_since is not None:
                lasts = now - partition.busy_since
                ages[partition.topic] = max(lasts, ages.get(partition.topic, 0.0))
            for subscription, count in partition.parked:
                waiting[subscription.name] += count
        for topic, subscriptions in self._graph.subscribed():
            age.add_metric([self._flow, *parts(topic.component), topic.event], ages.get(topic, 0.0))
            for name, component in {s.name: s.component for s in subscriptions}.items():
                parked.add_metric([self._flow, *parts(component), name], waiting[name])
        return age, parked
