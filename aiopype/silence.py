"""A source that is connected and from which nothing comes: noticed, and made a failure."""

from __future__ import annotations

import asyncio
import logging

from aiopype.errors import SourceSilent
from aiopype.logs import about
from aiopype.source import Source

__all__ = ["run_unless_silent"]

logger = logging.getLogger(__name__)

#: For a cancelled source to clean up; one that takes longer is not started again beside itself.
STOP_SECONDS = 5.0


async def run_unless_silent(source: Source) -> None:
    """Run a source's `start` until it ends, or is silent for longer than its `expect_every`.

    Raises:
        SourceSilent: nothing came; its `start` has been cancelled and has ended.
        Exception: whatever its `start` raised.
    """
    began_at = source.clock.monotonic()
    source.vitals.starts(began_at)
    if source.expect_every is None:
        await source.start()
        return
    run = asyncio.create_task(source.start(), name=f"start of {source.name}")
    watch = asyncio.create_task(_watch(source, began_at), name=f"silence of {source.name}")
    tasks = {run, watch}
    is_silent = False
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        is_silent = not run.done()
    finally:
        await _end(source, tasks)
        if not is_silent:
            run.result()  # raises what it raised, also while it was cancelled
    error = None if run.cancelled() else run.exception()
    if is_silent and (run.cancelled() or error is not None):
        raise SourceSilent(
            f"nothing came for more than {source.expect_every:g} s, its `expect_every`; "
            "it connects again"
        ) from error


async def _end(source: Source, tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks and await their end; who is cancelled meanwhile cancels them once more.

    Left to itself a source that is slow to end would run on beside its next start.
    """
    is_cancelled, left = False, tasks
    for task in tasks:
        task.cancel()
    while left:
        try:
            _, left = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        except asyncio.CancelledError:
            is_cancelled = True
            for task in tasks:
                task.cancel()
        else:
            if left:
                text = "source %s was cancelled and does not end"
                logger.error(text, source.name, extra=about(source.name))
    if is_cancelled:
        raise asyncio.CancelledError


async def _watch(source: Source, began_at: float) -> None:
    """Return when nothing has been heard for too long since it began."""
    assert source.expect_every is not None
    while True:
        heard_at = began_at if source.heard_at is None else max(began_at, source.heard_at)
        left = heard_at + source.expect_every - source.clock.monotonic()
        if left <= 0 and source.waiting:
            left = source.expect_every  # it is Kafka, or a handler, that is waited for
        if left <= 0:
            return
        await source.clock.sleep(left)
