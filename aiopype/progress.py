"""What becomes of the events on this worker, as numbers; and what went wrong lately.

Whoever shows or exports them reads them from here. They are kept a batch at a time.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from aiopype.distribution import Distribution
from aiopype.error_counts import ErrorCounts
from aiopype.figures import (
    DELAY_BOUNDS,
    DeliveryProgress,
    PartitionProgress,
    Stamped,
    SubscriptionProgress,
    TopicProgress,
)

__all__ = [
    "DeliveryProgress",
    "Of",
    "PartitionProgress",
    "Progress",
    "Rate",
    "RecentErrors",
    "SubscriptionProgress",
    "TopicProgress",
    "Trouble",
    "duration",
]

#: Over how long the rate of events is taken: long enough to be calm, short enough to be now.
RATE_SECONDS = 5.0

#: What is written: batches of events, or what sources emit.
Of = Literal["events", "source"]


class Progress:
    """The figures of one run of a flow on this worker; used on its event loop only.

    Arguments:
        clock: gives the seconds since 1970.

    Attributes:
        topics: by the topic's name.
        subscriptions: by the subscription's name; of two of one name together.
        sources: full names of the sources that were started here and not stopped.
        errors: what handlers raised, and why sources failed.
        deliveries: what was written, by what it is.
        dead_letters: how long the `error` topic of a component is, by the component's full name;
            empty as long as no broker has said so lately.
        loop_delay: by how much the event loop was late, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.topics: defaultdict[str, TopicProgress] = defaultdict(TopicProgress)
        self.subscriptions: defaultdict[str, SubscriptionProgress] = defaultdict(
            SubscriptionProgress
        )
        self.sources: set[str] = set()
        self.errors = ErrorCounts()
        self.deliveries: dict[Of, DeliveryProgress] = {
            "events": DeliveryProgress(),
            "source": DeliveryProgress(),
        }
        self.dead_letters: dict[str, int] = {}
        self.loop_delay = Distribution(DELAY_BOUNDS)
        self._clock = clock

    @property
    def partitions(self) -> int:
        """How many partitions this worker owns."""
        return sum(len(topic.partitions) for topic in self.topics.values())

    def assign(self, topic: str, partition: int) -> None:
        """Note that a partition belongs to this worker now; one that does already stays."""
        self.topics[topic].partitions.setdefault(partition, PartitionProgress())

    def revoke(self) -> None:
        """Forget how far the partitions are: they belong to others now."""
        for topic in self.topics.values():
            topic.partitions.clear()

    def fetched(self, topic: str, partition: int, position: int | None, end: int | None) -> None:
        """Note where the log ends, as a broker says; `position`, the next offset that is to be
        handled, counts the first time.
        """
        found = self.topics[topic].partitions.get(partition)
        if found is not None:
            if found.position is None:
                found.position = position
            if end is not None:
                found.hear(end, self._clock())

    def unheard(self, seconds: float) -> Iterator[tuple[str, int, PartitionProgress]]:
        """Yield the partitions whose end has not been heard of for so long."""
        before = self._clock() - seconds
        for name, topic in self.topics.items():
            for number, partition in topic.partitions.items():
                if partition.heard < before or partition.position is None:
                    yield name, number, partition

    def waits(self, topic: str, partition: int, timestamp_ms: int) -> None:
        """Note when the first event was stamped of all that are not handled."""
        found = self.topics[topic].partitions.get(partition)
        if found is not None and timestamp_ms >= 0:
            found.waiting_since = timestamp_ms / 1000

    def handled(
        self, topic: str, partition: int, count: int, last_timestamp_ms: int, position: int
    ) -> None:
        """Count a batch that is handled and durable."""
        figures = self.topics[topic]
        figures.handled += count
        figures.last_timestamp_ms = last_timestamp_ms
        figures.age_seconds = max(0.0, self._clock() - last_timestamp_ms / 1000)
        found = figures.partitions.get(partition)
        if found is not None:
            found.advance(position, last_timestamp_ms)

    def spread(self, topic: str, records: Sequence[Stamped], seconds: float) -> None:
        """Count how large a batch was that is durable, how long it took, and how old its events
        are.
        """
        self.topics[topic].add_batch(records, seconds, self._clock())

    def skipped(self, topic: str, partition: int, count: int, position: int) -> None:
        """Count events that nobody handled and that the log has no more; it begins at `position`
        now.
        """
        figures = self.topics[topic]
        figures.skipped += count
        found = figures.partitions.get(partition)
        if found is not None:
            found.advance(position, -1)

    def emitted(self, topic: str, count: int) -> None:
        """Count a batch that was written."""
        self.topics[topic].emitted += count

    def summary(self, seconds: float) -> str:
        """Return in one line what was handled in so many seconds."""
        counts = {name: topic.handled for name, topic in self.topics.items() if topic.handled}
        each = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        total = f"{sum(counts.values()):,} events handled in {duration(seconds)}"
        return f"{total}: {each}" if each else total


class Rate:
    """Events a second over the last seconds, from a count that grows."""

    def __init__(self, seconds: float = RATE_SECONDS) -> None:
        self._seconds = seconds
        self._samples: deque[tuple[float, int]] = deque()

    def update(self, now: float, count: int) -> float:
        """Take the count of this moment, on a clock in seconds; return the rate."""
        samples = self._samples
        samples.append((now, count))
        while len(samples) > 2 and now - samples[1][0] >= self._seconds:
            samples.popleft()
        passed = now - samples[0][0]
        return (count - samples[0][1]) / passed if passed > 0 else 0.0


class Trouble(NamedTuple):
    """A warning or an error as it was logged."""

    seconds: float  # since 1970
    level: str
    text: str


class RecentErrors(logging.Handler):
    """Keeps the last records from WARNING on, and counts all of them.

    It keeps their text alone: a traceback would hold on to everything that its frames had.

    Attributes:
        last: the last ones, the latest at the end.
        warnings, errors: how many there were.
    """

    def __init__(self, keep: int = 5) -> None:
        super().__init__(logging.WARNING)
        self.last: deque[Trouble] = deque(maxlen=keep)
        self.warnings = 0
        self.errors = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        try:
            text = f"{record.name}: {record.getMessage()}"
        except Exception:  # noqa: BLE001 - as every handler: a wrong log call breaks nothing
            self.handleError(record)
            return
        self.last.append(Trouble(record.created, record.levelname, text))
        if record.levelno >= logging.ERROR:
            self.errors += 1
        else:
            self.warnings += 1

    def in_words(self) -> str:
        """Return how many there were, as a person says it."""
        counts = [(self.errors, "error"), (self.warnings, "warning")]
        words = [f"{count:,} {what}{'s' * (count > 1)}" for count, what in counts if count]
        return ", ".join(words) or "no warnings or errors"


def duration(seconds: float) -> str:
    """Return a time as a person says it: `8 ms`, `3.2 s`, `5.1 min`, `2.0 h`, `3.5 days`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, size, below in (("s", 1, 60), ("min", 60, 3_600), ("h", 3_600, 172_800)):
        if seconds < below:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86_400:.1f} days"
