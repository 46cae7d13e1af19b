"""What reads, when Prometheus asks, what a worker has done with the brokers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from aiopype.metrics.families import add, counter, histogram
from aiopype.progress import Progress

__all__ = ["BrokerCollector", "Commits"]


class Commits(Protocol):
    """What is asked of the ledger.

    Attributes:
        committed, failed: how many commits there were that went well, and did not.
    """

    committed: int
    failed: int


class BrokerCollector(Collector):
    """Transactions, commits, how long they take; and rebalances.

    Arguments:
        flow: the flow's name.
        progress: counts what is written.
        commits: counts commits outside transactions.
        rebalances: returns how often each group was rebalanced.
    """

    def __init__(
        self,
        flow: str,
        progress: Progress,
        commits: Commits,
        rebalances: Callable[[], Mapping[str, int]],
    ) -> None:
        self._flow = flow
        self._progress = progress
        self._commits = commits
        self._rebalances = rebalances

    def collect(self) -> Iterator[Metric]:
        """Read the counts."""
        transactions = counter("aiopype_transactions_total")
        seconds = histogram("aiopype_delivery_seconds")
        for of, figures in self._progress.deliveries.items():
            transactions.add_metric([self._flow, of, "committed"], figures.committed)
            transactions.add_metric([self._flow, of, "aborted"], figures.aborted)
            transactions.add_metric([self._flow, of, "fenced"], figures.fenced)
            add(seconds, [self._flow, of], figures.seconds)
        commits = counter("aiopype_commits_total")
        commits.add_metric([self._flow, "ok"], self._commits.committed)
        commits.add_metric([self._flow, "failed"], self._commits.failed)
        rebalances = counter("aiopype_rebalances_total")
        for group, count in self._rebalances().items():
            rebalances.add_metric([self._flow, group], count)
        yield from (transactions, seconds, commits, rebalances)
