"""What is counted of one partition, topic, subscription and way of writing; see `progress`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiopype.distribution import Distribution

__all__ = [
    "DELAY_BOUNDS",
    "DeliveryProgress",
    "PartitionProgress",
    "Stamped",
    "SubscriptionProgress",
    "TopicProgress",
]

#: Of one event's handling: from what an empty method takes to what a slow service does.
_HANDLING_BOUNDS = (
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4,
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip

#: Of an event's age: from one step of a pipeline to what was made up for after a stop.
_AGE_BOUNDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
)  # fmt: skip

#: Of a batch: up to the most there can be, `transport/consumer.py`.
_EVENTS_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000)

#: Of what waits for brokers, for handlers of a batch, or for the event loop.
DELAY_BOUNDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip

#: Of so many events of a batch the age is looked at, each stands for those around it. Within a
#: partition they are about in the order of their age, and a batch has up to 4,000.
_AGES = 8


class Stamped(Protocol):
    """What has a time stamp, as a record has."""

    @property
    def timestamp(self) -> int:
        """In milliseconds since 1970; -1 without one."""


@dataclass(slots=True)
class PartitionProgress:
    """How far a partition is, as long as this worker owns it.

    Attributes:
        position: the offset before which everything is handled; None before the first fetch.
        end: the offset of the next event that is written to it, as last heard.
        heard: when that was heard, in seconds since 1970.
        waiting_since: since when the oldest event waits that is not handled, as far as is known:
            when its source saw it; before it has been fetched, when this worker first heard of it.
    """

    position: int | None = None
    end: int | None = None
    heard: float = 0.0
    waiting_since: float | None = None

    @property
    def lag(self) -> int | None:
        """Offsets between position and end; None as long as one is unknown."""
        if self.position is None or self.end is None:
            return None
        return max(0, self.end - self.position)

    def lag_seconds(self, now: float) -> float | None:
        """Return how long the oldest event waits; 0 without one, None as long as it is unknown."""
        lag = self.lag
        if lag is None:
            return None
        since = self.waiting_since
        return 0.0 if lag == 0 or since is None else max(0.0, now - since)

    def hear(self, end: int, now: float) -> None:
        """Note where the log ends."""
        self.end = end
        self.heard = now
        if self.waiting_since is None and self.lag:
            self.waiting_since = now

    def advance(self, position: int, last_timestamp_ms: int) -> None:
        """Note up to where all is handled; what follows was stamped after the last of that."""
        self.position = position
        has_more = bool(self.lag) and last_timestamp_ms >= 0
        self.waiting_since = last_timestamp_ms / 1000 if has_more else None


@dataclass(slots=True)
class TopicProgress:
    """What this worker did with the events of one topic.

    Attributes:
        emitted: events that its sources and handlers emitted, and that were written.
        handled: events that went through all subscriptions, their outputs being durable. After a
            crash, a rebalance or a retry the same event counts again.
        skipped: events that were not in the log any more when they should have been handled.
        last_timestamp_ms: of the last event handled, in milliseconds since 1970.
        age_seconds: how old that event was when it was handled.
        partitions: those of the topic that this worker owns.
        ages: how old events were when they were handled and durable, in seconds.
        batch_events, batch_seconds: of each batch, how large it was, and how long it took.
    """

    emitted: int = 0
    handled: int = 0
    skipped: int = 0
    last_timestamp_ms: int | None = None
    age_seconds: float | None = None
    partitions: dict[int, PartitionProgress] = field(default_factory=dict)
    ages: Distribution = field(default_factory=lambda: Distribution(_AGE_BOUNDS))
    batch_events: Distribution = field(default_factory=lambda: Distribution(_EVENTS_BOUNDS))
    batch_seconds: Distribution = field(default_factory=lambda: Distribution(DELAY_BOUNDS))

    @property
    def lag(self) -> int | None:
        """The sum over the partitions owned here; None when nothing is known of any."""
        known = [lag for p in self.partitions.values() if (lag := p.lag) is not None]
        return sum(known) if known else None

    def add_batch(self, records: Sequence[Stamped], seconds: float, now: float) -> None:
        """Count a batch that is durable.

        Arguments:
            records: its events.
            seconds: how long it took from its begin.
            now: seconds since 1970.
        """
        self.batch_events.add(len(records))
        self.batch_seconds.add(seconds)
        # So many times the same number, and what is left.
        step = max(1, len(records) // _AGES)
        left = len(records) % step
        for record in records[step // 2 : len(records) - left : step]:
            self._add_age(record, step, now)
        if left:
            self._add_age(records[-1], left, now)

    def _add_age(self, record: Stamped, count: int, now: float) -> None:
        if record.timestamp >= 0:
            self.ages.add(max(0.0, now - record.timestamp / 1000), count)


@dataclass(slots=True)
class SubscriptionProgress:
    """What became of the events of one subscription on this worker.

    Attributes:
        ok: events that its handler got through with.
        failed: tries that raised.
        parked: events that were put aside to be tried again later.
        dead_letters: events that are not tried again.
        retries: tries of an event after its first.
        seconds: how long the handler took for an event. Those below a millisecond count with the
            mean of their batch.
    """

    ok: int = 0
    failed: int = 0
    parked: int = 0
    dead_letters: int = 0
    retries: int = 0
    seconds: Distribution = field(default_factory=lambda: Distribution(_HANDLING_BOUNDS))

    def add_times(self, tries: int, seconds: float, slow: Sequence[float]) -> None:
        """Count how long tries took.

        Arguments:
            tries: how many there were.
            seconds: how long all of them took.
            slow: how long those of them took that took long.
        """
        if slow:
            for each in slow:
                self.seconds.add(each)
            tries -= len(slow)
            seconds = max(0.0, seconds - sum(slow))
        if tries > 0:
            self.seconds.add(seconds / tries, tries)


@dataclass(slots=True)
class DeliveryProgress:
    """What became of what this worker wrote: of its batches, or of its sources.

    Attributes:
        committed, aborted, fenced: its transactions. One that is not known to be committed counts
            as aborted.
        seconds: how long it took until what was written was durable.
    """

    committed: int = 0
    aborted: int = 0
    fenced: int = 0
    seconds: Distribution = field(default_factory=lambda: Distribution(DELAY_BOUNDS))
