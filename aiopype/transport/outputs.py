"""Emitted events as Kafka record batches: to which partition, and packed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple, cast

from aiokafka.partitioner import murmur2

from aiopype.event import Emitted, headers_of, stamped
from aiopype.topics import RECORD_BYTES, Topic

__all__ = ["BATCH_BYTES", "Packed", "of_foreign", "pack", "partition_of", "restamped"]

#: Size of a record batch: large enough that a fetched megabyte is four requests, small enough for
#: a broker's default limit of 1 MiB a batch.
BATCH_BYTES = 262_144

_NO_HEADERS: list[Any] = []

#: Most bytes of a record beside its key and value.
VARINTS_BYTES = 40


class Packed(NamedTuple):
    """A record batch and where it goes."""

    topic: str
    partition: int
    batch: Any


@lru_cache(maxsize=16_384)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key as Kafka's own clients choose it.

    Cached: aiokafka's murmur2 is Python, 1.7 us for a key of 10 bytes, and keys come again.
    """
    # The sign bit is masked off as in org.apache.kafka.common.utils.Utils.toPositive.
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def pack(
    emitted: Iterable[Emitted],
    create_batch: Callable[[], Any],
    partition: int,
    partitions: int | None,
    *,
    traced: bool = False,
) -> list[Packed]:
    """Pack events into record batches of their partitions; each partition keeps their order.

    Arguments:
        emitted: the events, all of topics whose number of partitions is known.
        create_batch: makes an empty batch of the producer that will send it.
        partition, partitions: the number, and the count in its topic, of the partition whose
            records emitted them; None where they come from a source.
        traced: whether there may be events that are written with headers.

    An event that kept its key stays in the partition of that number where both topics have as many
    (which is where the key's hash would put it, unless somebody chose another: then that choice
    holds); otherwise the key decides. Without a key the number decides, so that order holds.
    """
    # A partition that was added since its topic was looked at has a number of no other's count.
    if partitions is not None and partition >= partitions:
        partitions = -1
    packed: list[_Packing] = []
    packings: dict[tuple[str, int], _Packing] = {}
    topic = target = packing = append = cast("Any", None)
    count = 0
    for event_topic, key, value, timestamp, inherited in emitted:
        if inherited and (event_topic.partitions == partitions or event_topic.follows):
            event_target = partition
        elif key is not None:
            event_target = partition_of(key, event_topic.partitions or 1)
        else:
            event_target = partition % (event_topic.partitions or 1)
        # Neighbours mostly go to the same place: the look-up is done when it changes.
        if event_target != target or event_topic is not topic:
            if packing is not None:
                packing.count = count
            topic, target = event_topic, event_target
            place = (topic.name, target)
            packing = packings.get(place)
            if packing is None:
                packing = packings[place] = _Packing(topic, target, create_batch(), traced)
                packed.append(packing)
            append, count = packing.append, packing.count
        if append(count, timestamp, key, value, _NO_HEADERS) is None:
            packing.count = count
            packing = packings[topic.name, target] = _Packing(topic, target, create_batch(), traced)
            packed.append(packing)
            append, count = packing.append, 0
            append(0, timestamp, key, value, _NO_HEADERS)
        count += 1
    if packing is not None:
        packing.count = count
    return [packing.closed() for packing in packed]


def of_foreign(emitted: Iterable[Emitted], now_ms: int) -> list[Emitted]:
    """Return what records of a foreign topic brought forth, as events that come from a source.

    Who wrote the records chose their partitions by a rule of his own: here the key decides. And
    their times, by a clock of his own: the events have the time at which the records were handled,
    or retention would take what came of old ones before it is read, and the brokers refuse what is
    ahead of their time.
    """
    return [
        event if event[0].follows else (event[0], event[1], event[2], now_ms, False)
        for event in emitted
    ]


def restamped(emitted: Iterable[Emitted], like: Iterable[Emitted]) -> list[Emitted]:
    """Return events as they are, each with the trace of its like."""
    return [
        (*event[:3], stamped(event[3], other[3]), event[4])
        for event, other in zip(emitted, like, strict=True)
    ]


class _Packing:
    """A record batch that is being filled; records go straight into aiokafka's own builder.

    The builder around it takes 210 ns for a record, of which 90 are the builder's.
    """

    __slots__ = ("append", "batch", "count", "partition", "topic")

    def __init__(self, topic: Topic, partition: int, batch: Any, traced: bool) -> None:
        self.topic = topic
        self.partition = partition
        self.batch = batch
        self.count = 0
        append = _append_to(batch._builder, topic)
        self.append = _with_headers(append, topic) if traced else append

    def closed(self) -> Packed:
        self.batch._relative_offset = self.count
        self.batch.close()
        return Packed(self.topic.name, self.partition, self.batch)


def _append_to(builder: Any, topic: Topic) -> Callable[..., Any]:
    """Return what adds a record to a batch, or returns None when it is full."""
    limit = topic.largest + RECORD_BYTES
    if limit >= BATCH_BYTES:
        return builder.append  # type: ignore[no-any-return] # it is full before the topic's limit

    def append(
        number: int, timestamp: int, key: bytes | None, value: bytes | None, headers: list[Any]
    ) -> Any:
        # The broker measures its limit at the whole batch.
        adds = len(key or b"") + len(value or b"") + VARINTS_BYTES
        adds += _size(headers) if headers else 0
        if number and builder.size() + adds > limit:
            return None
        return builder.append(number, timestamp, key, value, headers)

    return append


def _with_headers(append: Callable[..., Any], topic: Topic) -> Callable[..., Any]:
    """Return what adds a record with the headers of its trace, where its topic takes it so."""

    def append_traced(
        number: int, timestamp: int, key: bytes | None, value: bytes | None, none: list[Any]
    ) -> Any:
        headers = headers_of(timestamp)
        if headers and len(key or b"") + len(value or b"") + _size(headers) > topic.largest:
            headers = none
        return append(number, timestamp, key, value, headers)

    return append_traced


def _size(headers: list[tuple[str, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)
