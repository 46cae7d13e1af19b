"""How far topics go, and how old their events are: asked in a few requests, in no group."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from aiopype.errors import BrokerError
from aiopype.transport.stored import Extent, Span

__all__ = ["Survey"]

#: For each answer.
ANSWER_SECONDS = 8.0

#: Leaders that have just changed are looked up again so often, after a moment each.
ATTEMPTS = 3
AGAIN_SECONDS = 0.2

#: Records that are fetched at once: a broker answers the requests of a connection in turn, and each
#: answer has one batch of records, a megabyte at most.
FETCHING = 32

#: Where the first batch was not an event, many may follow that are none: markers of transactions.
MORE_BYTES = 65_536

_FAILURES = (kafka_errors.KafkaError, OSError)

_Place = tuple[str, int]


class Survey:
    """Asks brokers about topics, one request a broker and question.

    Arguments:
        client: an AIOKafkaClient that is connected.
        brokers: its addresses, for errors.

    Raises:
        BrokerError: in every method, when no broker answers in 8 s.
    """

    def __init__(self, client: Any, brokers: str) -> None:
        self._client = client
        self._brokers = brokers

    async def places(self, topics: Iterable[str]) -> dict[_Place, bool]:
        """Return the partitions of those topics that exist, and whether each has a leader.

        A topic that this client may not see does not exist to it.
        """
        wanted = set(topics)
        await self._learn()
        cluster = self._client.cluster
        return {
            (topic, number): self._leader((topic, number)) is not None
            for topic in sorted(wanted & cluster.topics())
            for number in sorted(cluster.partitions_for_topic(topic) or ())
        }

    async def extents(self, places: Iterable[_Place]) -> dict[_Place, Extent]:
        """Return from where to where partitions go now; without those that nobody tells of."""
        found: dict[_Place, Extent] = {}
        left = [place for place in places if self._leader(place) is not None]
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(AGAIN_SECONDS)
                await self._learn()
            # In this order on one connection: no end is behind what is asked for after it.
            begins, ends, highs = await asyncio.gather(
                self._offsets(left, OffsetResetStrategy.EARLIEST, READ_COMMITTED),
                self._offsets(left, OffsetResetStrategy.LATEST, READ_COMMITTED),
                self._offsets(left, OffsetResetStrategy.LATEST, READ_UNCOMMITTED),
            )
            for place in begins.keys() & ends.keys() & highs.keys():
                found[place] = Extent(begins[place], ends[place], highs[place])
            left = [place for place in left if place not in found]
            if not left:
                break
        return found

    async def oldest(
        self, spans: Mapping[_Place, Span], seconds: float
    ) -> dict[_Place, int | None]:
        """Return when the first event of each span was written, in milliseconds since 1970.

        It is None where a span has none: markers of transactions, and what they took back. What was
        not read in so many seconds is left out.
        """
        found: dict[_Place, int | None] = {}
        room = asyncio.Semaphore(FETCHING)

        async def read(place: _Place, span: Span) -> None:
            async with room:
                with contextlib.suppress(*_FAILURES):
                    found[place] = await self._first(place, span)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for place, span in spans.items():
                    group.create_task(read(place, span), name=f"read {place}")
        return found

    async def _first(self, place: _Place, span: Span) -> int | None:
        """Return the timestamp of the first event of a span; None if it has none.

        Raises:
            KafkaError: it cannot be read.
        """
        offset, size = span.begin, 1  # a broker gives one whole batch at least
        while offset < span.end:
            records = await self._fetch(place, offset, size)
            record = next(records, None)
            if record is not None:
                return record.timestamp if record.offset < span.end else None
            if records.next_fetch_offset <= offset:
                raise kafka_errors.KafkaError(f"{place} has nothing at offset {offset}")
            offset, size = records.next_fetch_offset, MORE_BYTES
        return None

    async def _fetch(self, place: _Place, offset: int, size: int) -> PartitionRecords:
        topic, number = place
        request = FetchRequest(0, 0, size, READ_COMMITTED, [(topic, [(number, offset, size)])])
        answer = await self._client.send(self._leader(place), request)
        ((_, ((_, code, _, *facts),)),) = answer.topics
        _raise_for(code, place)
        # The last two but for a replica that is preferred: transactions that were taken back, and
        # the records.
        aborted = facts[2] if answer.API_VERSION >= 11 else facts[-2]
        tp, records = TopicPartition(topic, number), MemoryRecords(facts[-1] or b"")
        # Without sums of the bytes, which take longer than all else: it is for a timestamp.
        return PartitionRecords(tp, records, aborted, offset, None, None, False, READ_COMMITTED)

    async def _offsets(
        self, places: Iterable[_Place], at: int, isolation: int
    ) -> dict[_Place, int]:
        """Return one kind of offsets; without those partitions that their leaders do not tell."""
        nodes: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for topic, number in places:
            node = self._leader((topic, number))
            if node is not None:
                nodes[node][topic].append((number, at))
        found: dict[_Place, int] = {}

        async def ask(node: int, topics: Mapping[str, list[tuple[int, int]]]) -> None:
            with contextlib.suppress(*_FAILURES):
                answer = await self._client.send(
                    node, OffsetRequest(-1, isolation, list(topics.items()))
                )
                for topic, partitions in answer.topics:
                    for number, code, _, offset in partitions:
                        if code == 0:
                            found[topic, number] = offset

        async with self._answering():
            await asyncio.gather(*(ask(node, topics) for node, topics in nodes.items()))
        return found

    async def _learn(self) -> None:
        """Have the client know all topics and their leaders; no name is asked for, which a broker
        may be set to create.
        """
        async with self._answering():
            if not await self._client.force_metadata_update():
                raise BrokerError(f"the brokers at {self._brokers} answer no more; are they up?")

    @contextlib.asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                yield
        except TimeoutError as error:
            raise BrokerError(
                f"the brokers at {self._brokers} did not answer in {ANSWER_SECONDS:g} s; "
                "look into their own logs"
            ) from error

    def _leader(self, place: _Place) -> int | None:
        node = self._client.cluster.leader_for_partition(TopicPartition(*place))
        return None if node in {None, -1} else node


def _raise_for(code: int, place: _Place) -> None:
    if code:
        raise kafka_errors.for_code(code)(f"reading {place}")
