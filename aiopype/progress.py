"""What becomes of the events on this worker, as numbers; and what went wrong lately.

Whoever shows or exports them reads them from here. They are kept a batch at a time.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = [
    "PartitionProgress",
    "Progress",
    "Rate",
    "RecentErrors",
    "TopicProgress",
    "Trouble",
    "duration",
]

#: Over how long the rate of events is taken: long enough to be calm, short enough to be now.
RATE_SECONDS = 5.0


@dataclass(slots=True)
class PartitionProgress:
    """How far a partition is, as long as this worker owns it.

    Attributes:
        position: the offset before which everything is handled; None before the first fetch.
        end: the offset of the next event that is written to it, as of the last fetch.
    """

    position: int | None = None
    end: int | None = None

    @property
    def lag(self) -> int | None:
        """Offsets between position and end; None as long as one is unknown."""
        if self.position is None or self.end is None:
            return None
        return max(0, self.end - self.position)


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
    """

    emitted: int = 0
    handled: int = 0
    skipped: int = 0
    last_timestamp_ms: int | None = None
    age_seconds: float | None = None
    partitions: dict[int, PartitionProgress] = field(default_factory=dict)

    @property
    def lag(self) -> int | None:
        """The sum over the partitions owned here; None when nothing is known of any."""
        known = [lag for p in self.partitions.values() if (lag := p.lag) is not None]
        return sum(known) if known else None


class Progress:
    """The figures of one run of a flow on this worker; used on its event loop only.

    Arguments:
        clock: gives the seconds since 1970.

    Attributes:
        topics: by the topic's name.
        sources: full names of the sources that were started here and not stopped.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.topics: defaultdict[str, TopicProgress] = defaultdict(TopicProgress)
        self.sources: set[str] = set()
        self._clock = clock

    @property
    def partitions(self) -> int:
        """How many partitions this worker owns."""
        return sum(len(topic.partitions) for topic in self.topics.values())

    def assign(self, topic: str, partition: int) -> None:
        """Note that a partition belongs to this worker now."""
        self.topics[topic].partitions[partition] = PartitionProgress()

    def revoke(self) -> None:
        """Forget how far the partitions are: they belong to others now."""
        for topic in self.topics.values():
            topic.partitions.clear()

    def fetched(self, topic: str, partition: int, position: int, end: int | None) -> None:
        """Note where the log ends; `position`, the next offset to fetch, counts the first time."""
        found = self.topics[topic].partitions.get(partition)
        if found is not None:
            found.end = end
            if found.position is None:
                found.position = position

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
            found.position = position

    def skipped(self, topic: str, count: int) -> None:
        """Count events that nobody handled and that the log has no more."""
        self.topics[topic].skipped += count

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
