"""Counts that take reading: dead letters, and events that wait; both in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Mapping

from aiopype.commands.letters import Letters, Log, State, Wanted
from aiopype.commands.status_facts import LetterFacts, WaitingFacts
from aiopype.graph import Graph
from aiopype.replays import REQUEST, replays_of
from aiopype.topics import ERROR, parked_name
from aiopype.transport.parking import ROOM_EVENTS
from aiopype.transport.stored import Extent

__all__ = ["LetterCounts", "WaitingCounts"]

#: For reading either.
READ_SECONDS = 1.5

#: More letters than these are not read: some kilobytes each.
MOST_LETTERS = 20_000

_Extents = Mapping[tuple[str, int], Extent]


class LetterCounts:
    """Counts dead letters by what became of them; again only when something has changed.

    Arguments:
        graph: the flow, as it runs on Kafka.
        log: its broker.
    """

    def __init__(self, graph: Graph, log: Log) -> None:
        self._graph = graph
        self._log = log
        self._components = {
            topic.name: name
            for name in graph.components
            if (topic := graph.find(name, ERROR)) is not None
        }
        self._decisions = frozenset(
            topic.name
            for name in graph.components
            if name == replays_of(name.partition(".")[0])
            if (topic := graph.find(name, REQUEST)) is not None
        )
        self._ends: dict[tuple[str, int], int] = {}
        self._found: list[LetterFacts] = []

    @property
    def topics(self) -> list[str]:
        """The topics that `count` needs the extents of."""
        return [*self._components, *self._decisions]

    async def count(self, extents: _Extents) -> list[LetterFacts]:
        """Return the letters of those components that have any."""
        of_interest = self._components.keys() | self._decisions
        ends = {place: extent.end for place, extent in extents.items() if place[0] in of_interest}
        if ends != self._ends:
            self._found = await self._count(self._about(extents))
            self._ends = ends
        return self._found

    def _about(self, extents: _Extents) -> Counter[str]:
        """Return how many offsets there are by component: letters, and markers of transactions."""
        about: Counter[str] = Counter()
        for (topic, _), extent in extents.items():
            if topic in self._components:
                about[self._components[topic]] += extent.end - extent.begin
        return +about

    async def _count(self, about: Counter[str]) -> list[LetterFacts]:
        if about and about.total() <= MOST_LETTERS:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READ_SECONDS):
                    return await self._read(about)
        return [LetterFacts(name, count) for name, count in sorted(about.items())]

    async def _read(self, about: Counter[str]) -> list[LetterFacts]:
        states: dict[str, Counter[State]] = defaultdict(Counter)
        async for entry in Letters(self._graph, self._log).matching(Wanted()):
            states[entry.id.component][entry.state] += 1
        return [
            LetterFacts(name, n.total(), n["open"], n["replayed"], n["discarded"])
            for name, n in sorted(states.items())
        ]


class WaitingCounts:
    """Counts the events that wait, by subscription; each time it reads on where it stopped.

    Of the topics only the keys are needed, `<subscription> <offset>`: each is an event until it is
    deleted.

    Arguments:
        graph: the flow, as it runs on Kafka.
        log: its broker.
    """

    def __init__(self, graph: Graph, log: Log) -> None:
        self._log = log
        self.topics = [parked_name(topic.own_name) for topic, _ in graph.subscribed()]
        self._read: dict[tuple[str, int], int] = {}
        self._keys: dict[tuple[str, int], set[bytes]] = defaultdict(set)

    async def count(self, extents: _Extents) -> list[WaitingFacts]:
        """Return the counts of those subscriptions that have any."""
        topics = set(self.topics)
        ends = {place: extent.end for place, extent in extents.items() if place[0] in topics}
        self._forget(extents)
        news = {
            place[0]
            for place, end in ends.items()
            if end > self._read.get(place, extents[place].begin)
        }
        if news:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READ_SECONDS):
                    await self._read_on(news)
                    self._read |= {place: end for place, end in ends.items() if place[0] in news}
                    news = set()
        counts: Counter[str] = Counter()
        for keys in self._keys.values():
            counts.update(key.rpartition(b" ")[0].decode(errors="replace") for key in keys)
        return [WaitingFacts(name, count, not news) for name, count in sorted(counts.items())]

    def full(self) -> list[str]:
        """Return the topics' partitions where so many wait that no more are fetched."""
        return [
            f"{topic.removesuffix('.parked')}[{number}]"
            for (topic, number), keys in sorted(self._keys.items())
            if len(keys) >= ROOM_EVENTS
        ]

    async def _read_on(self, topics: set[str]) -> None:
        async for record in self._log.records(topics, after=self._read):
            place = (record.topic, record.partition)
            self._read[place] = record.offset + 1
            if record.value is None:
                self._keys[place].discard(record.key or b"")
            else:
                self._keys[place].add(record.key or b"")

    def _forget(self, extents: _Extents) -> None:
        """Forget partitions that are no more, or were made anew."""
        for place in [*self._read]:
            if place not in extents or extents[place].end < self._read[place]:
                self._read.pop(place)
                self._keys.pop(place, None)
