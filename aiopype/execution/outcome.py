"""What running a handler over events gave: a failure is a value, not an exception."""

from __future__ import annotations

from typing import NamedTuple

from aiopype.event import Emitted, Record
from aiopype.graph import Subscription

__all__ = ["Failure", "Outcome", "holds_its_key"]


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
    order, did not go well, all others did. `emitted` is what the others emitted.
    """

    handled: int
    emitted: list[Emitted]
    failures: list[Failure]


def holds_its_key(subscription: Subscription, error: Exception) -> bool:
    """Say whether later events of the key wait for one that failed with `error`.

    They do if it may be tried again. One that is a dead letter already has its place in the order
    no longer; a batch of nothing else would be gone through once for each.
    """
    return subscription.processor.retry.delay(error, 1, 0.0) is not None
