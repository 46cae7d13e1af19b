"""Topics for commands that look or decide: read to their present end, and written, in no group."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from aiopype.errors import BrokerError
from aiopype.transport.closing import stop_consumer
from aiopype.transport.diagnosis import unreachable
from aiopype.transport.groups import describe
from aiopype.transport.stored import Group, Outgoing, Stored
from aiopype.transport.survey import Survey

__all__ = ["Reader", "Writer"]

#: For reaching the brokers, and for each of their answers; also how long reading may stand still.
ANSWER_SECONDS = 20.0

#: For one look at what has been fetched. Behind the last record there may be a marker of a
#: transaction, which wakes nobody.
_POLL_SECONDS = 0.1

#: Records taken at once: those of a fetch are in memory anyhow.
_RECORDS = 500

#: Larger than any topic takes: it is the broker that says what is too large.
_REQUEST_BYTES = 256 * 1024 * 1024

_FORBIDDEN = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
)
_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)


class Reader:
    """Reads committed records; joins no group, creates nothing; an `async with` connects it.

    Arguments:
        brokers: `host:port,...`.
        security: from `connection_options`.

    Raises:
        BrokerError: in every method, when the brokers cannot be reached, do not answer within
            20 s, or do not allow it.
    """

    def __init__(self, brokers: str, *, security: Mapping[str, Any] | None = None) -> None:
        self._brokers = brokers
        self._security = security or {}
        self._open = contextlib.AsyncExitStack()
        self._admin: Any = None
        self._single: Any = None

    async def __aenter__(self) -> Self:
        client = AIOKafkaAdminClient(bootstrap_servers=self._brokers, **self._security)
        self._open.push_async_callback(client.close)
        try:
            await _connect(client, self._brokers, self._security, self._open)
            await self._reach(client)
        except asyncio.CancelledError:
            await self._open.aclose()
            raise
        self._admin = client
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def _reach(self, client: Any) -> None:
        # So far the configured addresses have answered; from here on it is those that the brokers
        # give themselves. Of no topic: nothing is told, and nothing created.
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.describe_topics([])
        except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
            await self._open.aclose()
            raise await unreachable(self._brokers, self._security, error) from error

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the number of partitions of those topics that exist."""
        wanted = set(topics)
        async with _asking(f"looking for topics at {self._brokers}"):
            # All are asked for: a broker may be set to create those that are asked for by name.
            described = await self._admin.describe_topics()
        return {
            each["topic"]: len(each["partitions"])
            for each in described
            if each["topic"] in wanted and each["partitions"]
        }

    async def ends(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """Return where those topics that exist end now, by topic and partition."""
        places = await self._places(topics)
        if not places:
            return {}
        async with contextlib.AsyncExitStack() as opened:
            consumer = await self._consumer(opened)
            async with _asking("asking for the ends of topics"):
                ends = await consumer.end_offsets(places)
        return {(place.topic, place.partition): end for place, end in ends.items()}

    async def records(
        self,
        topics: Iterable[str],
        since_ms: int | None = None,
        *,
        after: Mapping[tuple[str, int], int] | None = None,
    ) -> AsyncIterator[Stored]:
        """Yield the records that topics have now; those of a partition in order.

        A topic that does not exist has none. What is written while this reads is not seen.

        Arguments:
            topics: their names.
            since_ms: from the first record of each partition that is not older.
            after: from these offsets on, by topic and partition, as `ends` gave them.
        """
        places = await self._places(topics)
        if not places:
            return
        what = f"reading {', '.join(sorted({place.topic for place in places}))}"
        async with contextlib.AsyncExitStack() as opened:
            consumer = await self._consumer(opened)
            async with _asking(what):
                ends = await _seek(consumer, places, since_ms, after or {})
            moved = monotonic()
            while ends:
                with _translated(what):
                    found = await consumer.getmany(
                        timeout_ms=int(_POLL_SECONDS * 1000), max_records=_RECORDS
                    )
                for place, records in found.items():
                    for record in records:
                        if place in ends and record.offset < ends[place]:
                            yield _stored(record)
                async with _asking(what):
                    at_end = [p for p, end in ends.items() if await consumer.position(p) >= end]
                if found or at_end:
                    moved = monotonic()
                elif monotonic() - moved > ANSWER_SECONDS:
                    raise BrokerError(
                        f"{what}: nothing came for {ANSWER_SECONDS:g} s; "
                        "look into the brokers' own logs"
                    )
                for place in at_end:
                    del ends[place]
                    consumer.pause(place)

    async def record(self, topic: str, partition: int, offset: int) -> Stored | None:
        """Return one record; None when it is not there, or not any more."""
        if partition >= (await self.partitions([topic])).get(topic, 0):
            return None
        place = TopicPartition(topic, partition)
        if self._single is None:
            self._single = await self._consumer(self._open)
        consumer = self._single
        async with _asking(f"reading {topic}[{partition}] offset {offset}"):
            consumer.assign([place])
            first = (await consumer.beginning_offsets([place]))[place]
            end = (await consumer.end_offsets([place]))[place]
            if not first <= offset < end:
                return None
            consumer.seek(place, offset)
            while await consumer.position(place) <= offset:
                found = await consumer.getmany(timeout_ms=500, max_records=1)
                for record in found.get(place, ()):
                    return _stored(record) if record.offset == offset else None
        return None

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        """Return up to where a group is done, by topic and partition."""
        async with _asking(f"asking for the offsets of group {group}"):
            offsets = await self._admin.list_consumer_group_offsets(group)
        return {(place.topic, place.partition): at.offset for place, at in offsets.items()}

    async def group(self, name: str) -> Group:
        """Return a group's members, and what they said and were given; an unknown one has none."""
        async with _asking(f"asking for the members of group {name}"):
            return await describe(self._admin, name)

    def survey(self) -> Survey:
        """Return what asks how far topics go, over the same connections."""
        return Survey(self._admin._client, self._brokers)

    async def _places(self, topics: Iterable[str]) -> list[TopicPartition]:
        known = await self.partitions(topics)
        return [TopicPartition(name, n) for name, count in known.items() for n in range(count)]

    async def _consumer(self, opened: contextlib.AsyncExitStack) -> Any:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            **self._security,
        )
        opened.push_async_callback(stop_consumer, consumer)
        await _connect(consumer, self._brokers, self._security, opened)
        return consumer


class Writer:
    """Writes records, idempotently and to all replicas; an `async with` connects it.

    Arguments:
        brokers: `host:port,...`.
        security: from `connection_options`.
    """

    def __init__(self, brokers: str, *, security: Mapping[str, Any] | None = None) -> None:
        self._brokers = brokers
        self._security = security or {}
        self._open = contextlib.AsyncExitStack()
        self._producer: Any = None

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._brokers,
            enable_idempotence=True,
            acks="all",
            max_request_size=_REQUEST_BYTES,
            request_timeout_ms=int(ANSWER_SECONDS * 1000),
            **self._security,
        )
        self._open.push_async_callback(self._producer.stop)
        await _connect(self._producer, self._brokers, self._security, self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def write(self, records: Sequence[Outgoing]) -> list[int]:
        """Write records to topics that exist, and return their offsets.

        Raises:
            BrokerError: one of them was refused or not acknowledged within 20 s; the others may
                have been written or not. After that this writer is of no more use: aiokafka's
                sequence numbers have a gap.
        """
        async with _asking(f"writing to {', '.join(sorted({r.topic for r in records}))}"):
            acknowledged = [
                await self._producer.send(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    record.timestamp,
                    list(record.headers),
                )
                for record in records
            ]
            return [written.offset for written in await asyncio.gather(*acknowledged)]


async def _seek(
    consumer: Any,
    places: Sequence[TopicPartition],
    since_ms: int | None,
    after: Mapping[tuple[str, int], int],
) -> dict[TopicPartition, int]:
    """Go to where reading begins, and return the ends of those partitions that have something."""
    consumer.assign(places)
    ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
    starts: dict[TopicPartition, int] = await consumer.beginning_offsets(places)
    if since_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(places, max(since_ms, 0)))
        starts = {p: ends[p] if at is None else at.offset for p, at in found.items()}
    for place in places:
        start = max(starts[place], after.get((place.topic, place.partition), 0))
        if start < ends[place]:
            consumer.seek(place, start)
        else:
            del ends[place]
            consumer.pause(place)
    return ends


def _stored(record: Any) -> Stored:
    return Stored(*(getattr(record, name) for name in Stored._fields))


async def _connect(
    client: Any,
    brokers: str,
    security: Mapping[str, Any],
    opened: contextlib.AsyncExitStack,
) -> None:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await client.start()
    except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
        await opened.aclose()
        raise await unreachable(brokers, security, error) from error


@contextlib.asynccontextmanager
async def _asking(what: str) -> AsyncIterator[None]:
    """Give the brokers their time for an answer, and translate what goes wrong."""
    with _translated(what):
        async with asyncio.timeout(ANSWER_SECONDS):
            yield


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except _FORBIDDEN as error:
        raise BrokerError(f"{what}: {_text(error)}; give this client the right to") from error
    except _TOO_LARGE as error:
        raise BrokerError(
            f"{what}: {_text(error)}; raise max.message.bytes of the topic"
        ) from error
    except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
        raise BrokerError(f"{what}: {_text(error)}; look into the brokers' own logs") from error


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
