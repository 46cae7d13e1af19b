"""What makes a worker on Kafka ready: each of these is a check of its health."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from aiopype.health import Check, Health, Problem, manager_check, source_check, status_report
from aiopype.pipelines import Pipelines
from aiopype.watchdog import Condition

__all__ = ["App", "Fetching", "add_checks"]

#: A partition that has room is fetched several times a second.
FETCH_SECONDS = 15.0


class App(Protocol):
    """What is asked of the Faust app.

    Attributes:
        rebalancing: whether the group's partitions are being assigned anew.
        rebalancing_count: how often that began; 0 before the first assignment.
        should_stop: whether the worker stops.
    """

    rebalancing: bool
    rebalancing_count: int

    @property
    def should_stop(self) -> bool:
        """Whether the worker stops."""


def add_checks(health: Health, app: App, look: Callable[[], Condition], flow: Pipelines) -> None:
    """Check managers, sources, the broker, the group and fetching; tell of states in the report.

    Arguments:
        look: returns the condition of the worker's consumer.
    """
    supervisor, progress = flow.supervisor, flow.protocol.progress
    health.add("worker", lambda: Problem("it stops") if app.should_stop else None)
    health.add("broker", lambda: None if look().is_connected else Problem("no broker answers"))
    health.add("group", _group(app, look))
    health.add("fetching", Fetching(look))
    for manager in flow.managers:
        health.add(f"manager {manager.name}", manager_check(supervisor, str(manager.name)))
    for source in flow.sources:
        health.add(f"source {source}", source_check(supervisor, progress, source))

    def managers() -> dict[str, Any]:
        return {name: status_report(status) for name, status in supervisor.managers.items()}

    def sources() -> dict[str, Any]:
        return {
            name: status_report(status)
            for name, status in supervisor.sources.items()
            if name in progress.sources
        }

    health.detail("managers", managers)
    health.detail("sources", sources)


def _group(app: App, look: Callable[[], Condition]) -> Check:
    def check() -> Problem | None:
        if not app.rebalancing_count:
            return Problem("it has not had its first assignment yet")
        if app.rebalancing:
            return Problem("its partitions are being assigned anew")
        # Without partitions it is ready: others have them, and it takes over when one dies.
        return None if look().is_member else Problem("it is out of its group and joins again")

    return check


class Fetching:
    """The check that partitions with room are fetched.

    Arguments:
        look: returns the condition of the worker's consumer.
        clock: seconds that never go back.
    """

    def __init__(
        self, look: Callable[[], Condition], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._clock = clock
        self._seen: dict[str, tuple[Hashable, float]] = {}

    def __call__(self) -> Problem | None:
        """Compare with what was seen when it was last asked."""
        now = self._clock()
        seen = {}
        for name, mark in self._look().fetches.items():
            old, since = self._seen.get(name, (None, now))
            seen[name] = (mark, since if old == mark else now)
        self._seen = seen
        late = sorted(name for name, (_, since) in seen.items() if now - since > FETCH_SECONDS)
        if not late:
            return None
        more = f" and {len(late) - 1} more" if len(late) > 1 else ""
        return Problem(f"{late[0]}{more}: not fetched for more than {FETCH_SECONDS:g} s")
