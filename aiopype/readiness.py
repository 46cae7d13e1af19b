"""What makes a worker on Kafka ready: each of these is a check of its health."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from aiopype.health import Check, Health, Problem, manager_check, status_report
from aiopype.pipelines import Pipelines
from aiopype.source_health import add_source_checks
from aiopype.watchdog import Condition

__all__ = ["App", "Fetching", "add_checks"]

#: A partition that has room is fetched several times a second, and opened in about one.
FETCH_SECONDS = 15.0

#: All checks of a report look at the same condition; finding it out takes time with partitions.
SAME_SECONDS = 0.2

#: What a partition that could be fetched lacks.
_NOT_FETCHED = "not fetched"


class App(Protocol):
    """What is asked of the Faust app.

    Attributes:
        rebalancing: whether the group's partitions are being assigned anew.
        rebalancing_count: how often that began; 0 before the first assignment.
        is_stopping: whether the worker stops, its last batches included.
    """

    rebalancing: bool
    rebalancing_count: int

    @property
    def is_stopping(self) -> bool:
        """Whether the worker stops, its last batches included."""


def add_checks(
    health: Health,
    app: App,
    look: Callable[[], Condition],
    flow: Pipelines,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Check managers, sources, the broker, the group and fetching; tell of states in the report.

    Arguments:
        look: returns the condition of the worker's consumer.
        clock: seconds that never go back.
    """
    supervisor, progress = flow.supervisor, flow.protocol.progress
    look = _once(look, clock)
    health.add("worker", lambda: Problem("it stops") if app.is_stopping else None)
    health.add("broker", lambda: None if look().is_connected else Problem("no broker answers"))
    health.add("group", _group(app, look))
    health.add("fetching", Fetching(look, clock))
    for manager in flow.managers:
        health.add(f"manager {manager.name}", manager_check(supervisor, str(manager.name)))
    add_source_checks(health, flow)

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


def _once(look: Callable[[], Condition], clock: Callable[[], float]) -> Callable[[], Condition]:
    """Return what looks once for all checks of a report."""
    seen: tuple[float, Condition] | None = None

    def look_again_later() -> Condition:
        nonlocal seen
        now = clock()
        if seen is None or now - seen[0] >= SAME_SECONDS:
            seen = now, look()
        return seen[1]

    return look_again_later


def _group(app: App, look: Callable[[], Condition]) -> Check:
    def check() -> Problem | None:
        if not app.rebalancing_count:
            return Problem("it has not had its first assignment yet")
        if not look().is_member:
            return Problem("it is out of its group and joins again")
        # Without partitions it is ready: others have them, and it takes over when one dies.
        return Problem("its partitions are being assigned anew") if app.rebalancing else None

    return check


class Fetching:
    """The check that partitions are open, and those that have room fetched.

    Arguments:
        look: returns the condition of the worker's consumer.
        clock: seconds that never go back.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        look: Callable[[], Condition],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._look = look
        self._clock = clock
        self._wall = wall
        self._seen: dict[str, tuple[Hashable, float]] = {}

    def __call__(self) -> Problem | None:
        """Compare with what was seen when it was last asked."""
        now = self._clock()
        condition = self._look()
        # Without a broker nothing can be fetched, and that is the problem.
        marks: dict[str, Hashable] = {}
        if condition.is_connected:
            marks = {**condition.fetches, **condition.unready}
        seen = {}
        for name, mark in marks.items():
            old, since = self._seen.get(name, (None, now))
            seen[name] = (mark, since if old == mark else now)
        self._seen = seen
        late = sorted(name for name, (_, since) in seen.items() if now - since > FETCH_SECONDS)
        if not late:
            return None
        more = f" and {len(late) - 1} more" if len(late) > 1 else ""
        why = condition.unready.get(late[0], _NOT_FETCHED)
        oldest = min(seen[name][1] for name in late)
        return Problem(
            f"{late[0]}{more}: {why} for more than {FETCH_SECONDS:g} s",
            self._wall() - (now - oldest),
        )
