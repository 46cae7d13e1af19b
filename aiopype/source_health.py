"""What keeps a source of this worker from doing its work: each a problem of the worker's health."""

from __future__ import annotations

import time

from aiopype.health import Check, Health, Problem, source_check
from aiopype.pipelines import Pipelines
from aiopype.source import Source

__all__ = ["STUCK_SECONDS", "add_source_checks", "silent", "unwritten"]

#: What a source emitted is written in milliseconds; a source is owned in a second or two.
STUCK_SECONDS = 15.0


def add_source_checks(health: Health, flow: Pipelines) -> None:
    """Check of each source, while it is this worker's, that it runs, is written and is not silent.

    A source that is down is reported as such, one whose manager is down with that manager.
    """
    for name, source in flow.sources.items():
        health.add(f"source {name}", _check(flow, source))


def _check(flow: Pipelines, source: Source) -> Check:
    supervisor, progress = flow.supervisor, flow.protocol.progress
    is_down = source_check(supervisor, progress, source.name)

    def look() -> Problem | None:
        if (problem := is_down()) is not None:
            return problem
        if source.name not in progress.sources or not supervisor.is_running(source.name):
            return None
        return unwritten(source) or silent(source)

    return look


def unwritten(source: Source) -> Problem | None:
    """Say that what the source emits cannot be written, or that it cannot even begin."""
    outbox = source.vitals.outbox
    if outbox is None or outbox.stuck_since is None:
        return None
    seconds = time.monotonic() - outbox.stuck_since
    if seconds <= STUCK_SECONDS:
        return None
    what = f"{outbox.count:,} of its events are" if outbox.count else "its position is"
    why = outbox.trouble or "the brokers do not answer"
    reason = f"{what} not written, for more than {STUCK_SECONDS:g} s: {why}"
    return Problem(reason, time.time() - seconds)


def silent(source: Source) -> Problem | None:
    """Say that nothing has come for longer than `expect_every`, over restarts of the source too.

    So one that is started again and again, and hears nothing, does not count as well in between.
    """
    limit, began_at = source.expect_every, source.vitals.began_at
    if limit is None or began_at is None or source.waiting:
        return None
    heard_at = began_at if source.heard_at is None else max(began_at, source.heard_at)
    seconds = source.clock.monotonic() - heard_at
    if seconds <= limit:
        return None
    return Problem(
        f"silent: nothing has come for more than {limit:g} s, its `expect_every`",
        source.clock.time() - seconds,
    )
