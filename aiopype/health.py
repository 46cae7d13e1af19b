"""Whether this worker does its work, as a report that can be written as JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aiopype.graph import manager_of
from aiopype.logs import about
from aiopype.progress import Progress
from aiopype.states import Status
from aiopype.supervision import Supervisor

__all__ = [
    "Check",
    "Health",
    "Problem",
    "as_text",
    "manager_check",
    "source_check",
    "status_report",
]

logger = logging.getLogger(__name__)


class Problem(NamedTuple):
    """Why something is not ready.

    Attributes:
        reason: in words.
        since_seconds: since when, in seconds since 1970; None is: since it was first reported.
    """

    reason: str
    since_seconds: float | None = None


#: Looks at one thing, at once and without waiting; None when it is ready.
Check = Callable[[], Problem | None]


class Health:
    """The checks of a worker; it is ready when none of them has a problem.

    Arguments:
        flow: the flow's name.
        clock: seconds since 1970.
    """

    def __init__(self, flow: str, clock: Callable[[], float] = time.time) -> None:
        self._flow = flow
        self._clock = clock
        self._checks: dict[str, Check] = {}
        self._details: dict[str, Callable[[], Any]] = {}
        self._since: dict[str, float] = {}

    def add(self, name: str, check: Check) -> None:
        """Let `check` be asked for every report; what it finds stands under `name`."""
        self._checks[name] = check

    @property
    def checks(self) -> tuple[str, ...]:
        """The names of all checks."""
        return tuple(self._checks)

    def detail(self, name: str, tell: Callable[[], Any]) -> None:
        """Put what `tell` returns, which JSON can hold, into every report under `name`."""
        self._details[name] = tell

    def problems(self) -> dict[str, Problem]:
        """Ask every check; return what is not ready, by name, with the time since when."""
        found = {}
        for name, check in self._checks.items():
            problem = _ask(name, check)
            if problem is None:
                self._since.pop(name, None)
            elif problem.since_seconds is None:
                since = self._since.setdefault(name, self._clock())
                found[name] = problem._replace(since_seconds=since)
            else:
                found[name] = problem
        return found

    def report(self) -> dict[str, Any]:
        """Return `is_ready`, what is not ready with reason and since, and the details."""
        problems = self.problems()
        return {
            "flow": self._flow,
            "is_ready": not problems,
            "problems": {
                name: {"reason": problem.reason, "since": as_text(problem.since_seconds)}
                for name, problem in problems.items()
            },
            **{name: tell() for name, tell in self._details.items()},
        }


def manager_check(supervisor: Supervisor, name: str) -> Check:
    """Return the check of a manager: it has a problem while it is down."""
    return lambda: _problem(supervisor.status(name))


def source_check(supervisor: Supervisor, progress: Progress, name: str) -> Check:
    """Return the check of a source: it has a problem while it belongs here and is down by itself.

    When its manager is down, that is the problem, and it is told once.
    """

    def look() -> Problem | None:
        if name not in progress.sources or not supervisor.is_running(manager_of(name)):
            return None
        return _problem(supervisor.status(name))

    return look


def status_report(status: Status) -> dict[str, Any]:
    """Return a manager's or source's status as JSON can hold it."""
    report: dict[str, Any] = {"state": str(status.state), "since": as_text(status.since_seconds)}
    if status.is_down:
        report |= {"reason": status.reason, "again": as_text(status.again_seconds)}
    return report


def _problem(status: Status) -> Problem | None:
    if not status.is_down:
        return None
    return Problem(f"{status.state}: {status.reason}", status.since_seconds)


def _ask(name: str, check: Check) -> Problem | None:
    try:
        return check()
    except Exception as error:
        logger.exception("the check of %s raised", name, extra=about(apart=name))
        return Problem(f"its check raised {type(error).__name__}: {error}")


def as_text(seconds: float | None) -> str | None:
    """Return a time, in seconds since 1970, as ISO 8601, UTC, in milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
