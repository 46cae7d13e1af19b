"""Looks at a flow from its brokers: groups, offsets, sources, dead letters; all in one picture."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Protocol

from aiopype.commands import letters, owners, source_list
from aiopype.commands.flows import Connection
from aiopype.commands.owners import Owners, Picture
from aiopype.commands.status_counts import LetterCounts, WaitingCounts
from aiopype.commands.status_events import Events, Place, Seen
from aiopype.commands.status_facts import FlowFacts, GroupFacts, WorkerFacts
from aiopype.ownership import wish_topic
from aiopype.transport.stored import Extent, Group, Joined, Span

__all__ = ["Log", "Looker", "Survey"]

#: For reading how old the events are that were not handled.
OLDEST_SECONDS = 2.0


class Survey(Protocol):
    """What asks how far topics go; `transport.survey.Survey` is one."""

    async def places(self, topics: Iterable[str]) -> dict[Place, bool]:
        """Return the partitions of those topics that exist, and whether each has a leader."""

    async def extents(self, places: Iterable[Place]) -> dict[Place, Extent]:
        """Return from where to where partitions go now."""

    async def oldest(self, spans: Mapping[Place, Span], seconds: float) -> dict[Place, int | None]:
        """Return when the first event of each span was written."""


class Log(letters.Log, owners.Log, Protocol):
    """What is needed of the broker; `transport.reading.Reader` is one."""

    def survey(self) -> Survey:
        """Return what asks how far topics go."""


class Looker:
    """Looks at a flow; each time it reads on where it stopped, and knows what has changed.

    Arguments:
        connection: to the flow's topics.
        log: its broker.
    """

    def __init__(self, connection: Connection, log: Log) -> None:
        self._connection = connection
        self._log = log
        self._survey = log.survey()
        self._owners = Owners(connection, log)
        self._events = Events(connection.graph)
        self._letters = LetterCounts(connection.graph, log)
        self._waiting = WaitingCounts(connection.graph, log)

    async def look(self) -> FlowFacts:
        """Return how the flow is now; what is wrong with it is not judged.

        Raises:
            BrokerError: the brokers do not answer, or do not allow it.
        """
        (group, committed), picture, places = await _together(
            self._group(), self._owners.look(), self._places()
        )
        # Asked for after the positions: so nothing that is done is behind an end.
        extents = await self._survey.extents(places)
        names = _names(group.members)
        given = {place: names[each] for each in group.members for place in each.partitions}
        seen = Seen(places, extents, committed, given)
        oldest, found, waiting = await _together(
            self._survey.oldest(self._events.spans(seen), OLDEST_SECONDS),
            self._letters.count(extents),
            self._waiting.count(extents),
        )
        now = time.time()
        return FlowFacts(
            flow=self._connection.group,
            brokers=self._connection.brokers,
            at_ms=int(now * 1000),
            groups=self._groups(group, picture),
            workers=_workers(group, picture),
            events=tuple(self._events.facts(seen, oldest, now)),
            waiting=waiting,
            sources=[source_list.as_json(source) for source in picture.sources.values()],
            dead_letters=found,
            full_partitions=self._waiting.full(),
        )

    async def _group(self) -> tuple[Group, dict[Place, int]]:
        # In turn: the first question waits for a coordinator where there is none yet.
        group = await self._log.group(self._connection.group)
        committed = await self._log.committed(self._connection.group)
        return group, {place: offset for place, offset in committed.items() if offset >= 0}

    async def _places(self) -> dict[Place, bool]:
        topics = {topic.name for topic in self._events.topics}
        return await self._survey.places({*topics, *self._letters.topics, *self._waiting.topics})

    def _groups(self, group: Group, picture: Picture) -> dict[str, GroupFacts]:
        """Return the groups that workers of the flow join."""
        name, found = self._connection.group, {}
        if self._events.is_subscribed:
            found["events"] = _group_facts(name, group.is_settled, len(group.members))
        if self._connection.sources:
            members = len(picture.workers)
            found["sources"] = _group_facts(wish_topic(name), picture.is_settled, members)
        return found


def _group_facts(name: str, is_settled: bool, members: int) -> GroupFacts:
    if not is_settled:
        return GroupFacts(name, "rebalancing", members)
    return GroupFacts(name, "stable" if members else "empty", members)


def _names(members: Iterable[Joined]) -> dict[Joined, str]:
    """Return what each member is called: as its worker, where its client says that."""
    counts = Counter(member.client for member in members)
    return {
        member: member.client
        if ":" in member.client and counts[member.client] == 1
        else member.id or member.client
        for member in members
    }


def _workers(group: Group, picture: Picture) -> list[WorkerFacts]:
    found = {
        name: WorkerFacts(name, member.host, len(member.partitions) if group.is_settled else None)
        for member, name in _names(group.members).items()
    }
    if picture.is_settled:
        for worker in picture.workers:
            other = found.get(worker.name)
            partitions = None if other is None else other.partitions
            found[worker.name] = WorkerFacts(
                worker.name, worker.address, partitions, len(worker.sources)
            )
    return [found[name] for name in sorted(found)]


async def _together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Await all; when one fails the others are cancelled, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each, name="look at a flow") for each in work]
    except* Exception as errors:  # noqa: BLE001 - it is raised, alone
        first = errors.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise first
