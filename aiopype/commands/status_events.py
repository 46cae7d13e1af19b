"""How far a flow is with its events: what the brokers said of partitions, put together."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from aiopype.commands.status_facts import EventFacts, PartitionFacts
from aiopype.graph import Graph
from aiopype.progress import Rate
from aiopype.replays import is_replays
from aiopype.topics import ERROR, Topic
from aiopype.transport.stored import Extent, Span

__all__ = ["Events", "Place", "Seen"]

Place = tuple[str, int]


class Seen(NamedTuple):
    """What the brokers said of partitions.

    Attributes:
        places: those that exist, and whether each has a leader.
        extents: from where to where they go.
        committed: before which offset the flow is done.
        owners: the worker that has each.
    """

    places: Mapping[Place, bool]
    extents: Mapping[Place, Extent]
    committed: Mapping[Place, int]
    owners: Mapping[Place, str]


class Events:
    """The events of a flow; from one look to the next it knows how fast they are.

    Arguments:
        graph: the flow, as it runs on Kafka.

    Attributes:
        topics: of the events that are told of.
        is_subscribed: whether the flow handles any.
    """

    def __init__(self, graph: Graph) -> None:
        self._subscribed = {topic.name: topic for topic, _ in graph.subscribed()}
        self.topics = list(_shown(graph))
        self.is_subscribed = bool(self._subscribed)
        self._written: defaultdict[str, Rate] = defaultdict(Rate)
        self._handled: defaultdict[str, Rate] = defaultdict(Rate)
        self._looks = 0

    def spans(self, seen: Seen) -> dict[Place, Span]:
        """Return the offsets that the flow has not done yet, where there are any."""
        spans = {}
        for place, extent in seen.extents.items():
            topic = self._subscribed.get(place[0])
            if topic is None:
                continue
            first = extent.end if topic.begins_at_end else extent.begin
            done = max(extent.begin, seen.committed.get(place, first))
            if done < extent.end:
                spans[place] = Span(done, extent.end)
        return spans

    def facts(
        self, seen: Seen, oldest: Mapping[Place, int | None], now: float
    ) -> Iterator[EventFacts]:
        """Yield what is known of each event; of those nobody handles only if the topic exists.

        Arguments:
            seen: what the brokers said.
            oldest: when the first event of each span was written; None where there is none.
            now: seconds since 1970.
        """
        of_topic = defaultdict(list)
        spans = self.spans(seen)
        for place in seen.places:
            is_handled = place[0] in self._subscribed
            of_topic[place[0]].append(
                _partition(place, seen, oldest, spans.get(place), now)
                if is_handled
                else _extent(place, seen)
            )
        for topic in self.topics:
            if of_topic[topic.name] or topic.name in self._subscribed:
                yield self._event(topic, tuple(of_topic[topic.name]))
        self._looks += 1

    def _event(self, topic: Topic, partitions: tuple[PartitionFacts, ...]) -> EventFacts:
        is_subscribed = topic.name in self._subscribed
        lags = [each.lag for each in partitions if each.lag is not None]
        seconds = [each.lag_seconds for each in partitions if each.lag_seconds is not None]
        handled = [each.committed for each in partitions] if is_subscribed else []
        return EventFacts(
            event=topic.full_name,
            topic=topic.name,
            is_subscribed=is_subscribed,
            is_foreign=topic.foreign is not None,
            is_internal=is_replays(topic.component),
            partitions=partitions,
            lag=sum(lags) if lags else None,
            lag_seconds=max(seconds) if seconds else None,
            written_rate=self._rate(self._written[topic.name], [p.end for p in partitions]),
            handled_rate=self._rate(self._handled[topic.name], handled),
        )

    def _rate(self, rate: Rate, offsets: Iterable[int | None]) -> float | None:
        known = [offset for offset in offsets if offset is not None]
        if not known:
            return None
        # It goes back where a topic was made anew, or not all of it is known.
        found = max(0.0, rate.update(time.monotonic(), sum(known)))
        return round(found, 1) if self._looks else None


def _shown(graph: Graph) -> Iterator[Topic]:
    """Yield the topics of events; of dead letters only those that somebody handles."""
    subscribed = {topic for topic, _ in graph.subscribed()}
    for topic in graph.topics():
        if topic in subscribed or not (topic.event == ERROR or is_replays(topic.component)):
            yield topic


def _extent(place: Place, seen: Seen) -> PartitionFacts:
    extent = seen.extents.get(place)
    return PartitionFacts(
        partition=place[1],
        has_leader=seen.places[place],
        begin=extent and extent.begin,
        end=extent and extent.end,
        uncommitted=extent and extent.high - extent.end,
    )


def _partition(
    place: Place, seen: Seen, oldest: Mapping[Place, int | None], span: Span | None, now: float
) -> PartitionFacts:
    extent = seen.extents.get(place)
    lag, first, seconds = None, None, None
    if extent is not None:
        is_done = span is None or (place in oldest and oldest[place] is None)
        lag = 0 if span is None or is_done else span.end - span.begin
        first = oldest.get(place)
        if is_done:
            seconds = 0.0
        elif first is not None:
            seconds = round(max(0.0, now - first / 1000), 3)
    return PartitionFacts(
        partition=place[1],
        owner=seen.owners.get(place),
        has_leader=seen.places[place],
        begin=extent and extent.begin,
        end=extent and extent.end,
        uncommitted=extent and extent.high - extent.end,
        committed=seen.committed.get(place),
        lag=lag,
        oldest_ms=first,
        lag_seconds=seconds,
    )
