"""What running a handler over events gave: a failure is a value, not an exception."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aiopype.event import Emitted, Record
from aiopype.graph import Subscription

__all__ = ["SLOW_SECONDS", "Failure", "Outcome", "Times", "holds_its_key"]

#: A try that takes longer is told by itself; of the others the mean will do.
SLOW_SECONDS = 0.001


class Failure(NamedTuple):
    """An event that did not go well, with its record.

    `error` is what its handler raised, or why its value could not be decoded. None: it was not
    tried, because an event of its key waits to be tried again.
    """

    subscription: Subscription
    record: Record
    error: Exception | None

    def __str__(self) -> str:
        if self.error is None:
            return f"{self.subscription.name} waits for an event of the same key"
        return f"{type(self.error).__name__} in {self.subscription.name}: {self.error}"


class Outcome(NamedTuple):
    """What running a subscription over records gave.

    `handled` counts the records taken, from the first on: those in `failures`, which are in their
    order, did not go well, all others did. `emitted` is what the others emitted. `seconds` is how
    long the handler took for all of them together, decoding included; `slow` how long it took for
    each of those for which it took longer than a millisecond.
    """

    handled: int
    emitted: list[Emitted]
    failures: list[Failure]
    seconds: float = 0.0
    slow: Sequence[float] = ()

    @property
    def tries(self) -> int:
        """How often the handler was called: not for events that wait behind others."""
        if not self.failures:
            return self.handled
        return self.handled - sum(failure.error is None for failure in self.failures)


class Times:
    """How long tries took, each measured by itself.

    Attributes:
        seconds: all of them together.
        slow: each that took long.
    """

    __slots__ = ("seconds", "slow")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slow: list[float] = []

    def add(self, seconds: float) -> None:
        """Note a try."""
        self.seconds += seconds
        if seconds > SLOW_SECONDS:
            self.slow.append(seconds)


def holds_its_key(subscription: Subscription, error: Exception) -> bool:
    """Say whether later events of the key wait for one that failed with `error`.

    They do if it may be tried again. One that is a dead letter already has its place in the order
    no longer; a batch of nothing else would be gone through once for each.
    """
    return subscription.processor.retry.delay(error, 1, 0.0) is not None
