"""What came of the events of a partition, counted by subscription; a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

from aiopype.execution import Outcome
from aiopype.graph import Subscription
from aiopype.progress import Progress
from aiopype.settlement import Attempt, Settled, retries_of

__all__ = ["Results"]


class Results:
    """Counts results of handlers; a batch that is handled again counts again.

    Arguments:
        progress: has the counts.
        subscriptions: those of the partition's topic, in order; each is known by its index.
    """

    def __init__(self, progress: Progress, subscriptions: Sequence[Subscription]) -> None:
        self._errors = progress.errors
        self._components = [subscription.component for subscription in subscriptions]
        self._figures = [progress.subscriptions[each.name] for each in subscriptions]

    def handled(self, index: int, outcome: Outcome, attempts: Sequence[Attempt] = ()) -> None:
        """Count what running a subscription over events gave.

        Arguments:
            attempts: what was known of these events, in their order, where they have waited.
        """
        figures = self._figures[index]
        figures.ok += outcome.handled - len(outcome.failures)
        figures.add_times(outcome.tries, outcome.seconds, outcome.slow)
        for failure in outcome.failures:
            if failure.error is not None:
                figures.failed += 1
                self._errors.add(self._components[index], failure.error)
        if attempts:
            figures.retries += retries_of(outcome, attempts)

    def settled(self, index: int, settled: Settled, parked: int = 0) -> None:
        """Count what became of failures.

        Arguments:
            parked: how many of those that wait have not waited before.
        """
        for outcome in settled.outcomes:
            self.handled(index, outcome)
        figures = self._figures[index]
        figures.retries += settled.retries
        figures.dead_letters += settled.dead_letters
        figures.parked += parked
