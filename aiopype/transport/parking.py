"""Events that failed and wait for their next try, and those of their keys behind them."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from aiopype.event import Emitted
from aiopype.graph import Subscription
from aiopype.logs import about
from aiopype.settlement import Attempt
from aiopype.topics import Topic

__all__ = ["ParkedRecord", "Parking", "Store"]

logger = logging.getLogger(__name__)

#: Most events, and bytes of them, that a partition lets wait; then it fetches no more.
ROOM_EVENTS, ROOM_BYTES = 10_000, 8_388_608

#: Most events of one round of tries.
ROUND_EVENTS = 500

_encode = msgspec.msgpack.Encoder().encode

#: By key; an event without one is alone, under its offset.
_Lane = deque[Attempt]
_Lanes = dict[bytes | int, _Lane]


class ParkedRecord(msgspec.Struct, array_like=True, frozen=True):
    """A record as it waits, with its origin's offset and all it had."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class _Entry(msgspec.Struct, array_like=True):
    """What stands in the topic of a partition's waiting events, in msgpack."""

    subscription: str
    record: ParkedRecord
    tries: int
    first_failed: float
    due: float


_decode = msgspec.msgpack.Decoder(_Entry).decode


class Store(Protocol):
    """Where the entries of waiting events are."""

    async def read(self, topic: Topic, partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        """Return key and value of every record of a partition; raises DeliveryError."""

    def need(self, topic: Topic) -> None:
        """Have the topic made before something is written to it."""


class Parking:
    """The waiting events of one partition; the topic has them, this is its memory.

    The topic is compacted: an entry is written when an event begins to wait and after each try,
    and deleted, both in the transaction of what came of the event. Its key is the subscription
    and the event's offset; its partition has the number of the event's own.

    Arguments:
        topic: where the entries are.
        partition: the number of the partition.
        subscriptions: of the events' topic, in order.
        store: reads and makes the topic.
    """

    def __init__(
        self,
        topic: Topic,
        partition: int,
        subscriptions: Sequence[Subscription],
        store: Store,
    ) -> None:
        self.topic = topic
        self.subscriptions = subscriptions
        self._partition = partition
        self._store = store
        self._names = _distinct([subscription.name for subscription in subscriptions])
        self._lanes: list[_Lanes] = [{} for _ in subscriptions]
        self.count = 0
        self._bytes = 0
        self.unknown: set[str] = set()

    @property
    def is_full(self) -> bool:
        """Whether too many wait for more of the partition to be fetched."""
        return self.count >= ROOM_EVENTS or self._bytes >= ROOM_BYTES

    @property
    def counts(self) -> list[int]:
        """How many events of each subscription wait."""
        return [sum(map(len, lanes.values())) for lanes in self._lanes]

    def keys(self, index: int) -> Collection[bytes]:
        """Return the keys whose events wait for the subscription with this index."""
        lanes = self._lanes[index]
        return [key for key in lanes if isinstance(key, bytes)] if lanes else ()

    def next_due(self) -> float | None:
        """Return when the next try may begin, in seconds since 1970; None when nothing waits."""
        return min((lane[0].due for lanes in self._lanes for lane in lanes.values()), default=None)

    def due(self, now: float) -> tuple[int, list[Attempt]] | None:
        """Return the index of a subscription and events of it that may be tried, in order.

        They are those that are due and what waits behind them.
        """
        for index, lanes in enumerate(self._lanes):
            found: list[Attempt] = []
            for lane in lanes.values():
                if lane[0].due <= now and len(found) < ROUND_EVENTS:
                    found += list(lane)[: ROUND_EVENTS - len(found)]
            if found:
                return index, sorted(found, key=_offset)
        return None

    # --- what the topic is told

    def entries(self, parked: Iterable[tuple[int, Attempt]]) -> list[Emitted]:
        """Return the entries of events that begin to wait, by the index of their subscription."""
        entries = [self._entry(index, attempt) for index, attempt in parked]
        if entries:
            self._store.need(self.topic)
        return entries

    def changes(
        self, index: int, tried: Sequence[Attempt], waiting: Iterable[Attempt]
    ) -> list[Emitted]:
        """Return what has changed by trying: entries of those that failed, deletions of others."""
        left = {attempt.record.offset: attempt for attempt in waiting}
        before = {attempt.record.offset: attempt.tries for attempt in tried}
        changes = []
        for offset, tries in before.items():
            if offset not in left:
                changes.append(self._emitted(self._key(index, offset), None))
            elif left[offset].tries != tries:
                changes.append(self._entry(index, left[offset]))
        return changes

    def _entry(self, index: int, attempt: Attempt) -> Emitted:
        record = attempt.record
        entry = _Entry(
            self._names[index],
            ParkedRecord(
                record.offset, int(record.timestamp), record.key, record.value,
                tuple(getattr(record, "headers", ())),
            ),
            attempt.tries, attempt.first_failed, attempt.due,
        )  # fmt: skip
        return self._emitted(self._key(index, record.offset), _encode(entry))

    def _key(self, index: int, offset: int) -> bytes:
        return f"{self._names[index]} {offset}".encode()

    def _emitted(self, key: bytes, value: bytes | None) -> Emitted:
        # "Inherited": into the partition of the same number, whatever its key.
        return (self.topic, key, value, int(time.time() * 1000), True)

    # --- memory

    def add(self, parked: Iterable[tuple[int, Attempt]]) -> None:
        """Let events wait whose entries are durable; one that waits already is left as it is."""
        for index, attempt in parked:
            lane = self._lanes[index].setdefault(_lane_of(attempt), deque())
            offset = attempt.record.offset
            # At least once a batch may be handled again although its entries were written.
            if lane and offset <= lane[-1].record.offset and offset in {*map(_offset, lane)}:
                continue
            lane.append(attempt)
            self.count += 1
            self._bytes += _size(attempt)

    def replace(self, index: int, tried: Iterable[Attempt], waiting: Iterable[Attempt]) -> None:
        """Keep of events that were tried those that wait on, as the first of their keys."""
        lanes = self._lanes[index]
        for attempt in tried:
            lanes[_lane_of(attempt)].popleft()
            self.count -= 1
            self._bytes -= _size(attempt)
        left: dict[bytes | int, list[Attempt]] = {}
        for attempt in waiting:
            left.setdefault(_lane_of(attempt), []).append(attempt)
            self.count += 1
            self._bytes += _size(attempt)
        for place, attempts in left.items():
            lanes[place].extendleft(reversed(attempts))
        for place in [place for place, lane in lanes.items() if not lane]:
            del lanes[place]

    async def load(self) -> None:
        """Read what waits; nobody else may write it any more.

        An entry that cannot be read, or is of a subscription that the flow does not have any more,
        stays in the topic and is named in `unknown`.

        Raises:
            DeliveryError: the broker does not answer.
        """
        found: dict[bytes, bytes] = {}
        for key, value in await self._store.read(self.topic, self._partition):
            found.pop(key, None)
            if value is not None:
                found[key] = value
        self._lanes = [{} for _ in self.subscriptions]
        self.count = self._bytes = 0
        self.unknown = set()
        self.add(self._attempts(found.items()))
        if self.unknown:
            logger.error(
                "%s[%d] has events that nobody can handle, and keeps them: %s",
                self.topic.name, self._partition, ", ".join(sorted(self.unknown)),
                extra=about(
                    topic=self.topic.name, partition=self._partition,
                    apart=(self.topic.name, self._partition),
                ),
            )  # fmt: skip

    def _attempts(self, found: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[int, Attempt]]:
        entries = []
        for key, value in found:
            try:
                entries.append(_decode(value))
            except msgspec.MsgspecError:
                self.unknown.add(repr(key))
        for entry in sorted(entries, key=lambda entry: entry.record.offset):
            if entry.subscription in self._names:
                yield (
                    self._names.index(entry.subscription),
                    Attempt(entry.record, entry.tries, entry.first_failed, None, entry.due),
                )
            else:
                self.unknown.add(entry.subscription)


def _lane_of(attempt: Attempt) -> bytes | int:
    record = attempt.record
    return record.offset if record.key is None else record.key


def _offset(attempt: Attempt) -> int:
    return attempt.record.offset


def _size(attempt: Attempt) -> int:
    return len(attempt.record.value or b"") + len(attempt.record.key or b"")


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names with a number behind those that came before: a handler subscribed twice."""
    return [
        name if name not in names[:n] else f"{name} {names[:n].count(name) + 1}"
        for n, name in enumerate(names)
    ]
