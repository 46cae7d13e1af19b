"""A source that is connected and from which nothing comes: noticed, and made a failure."""

from __future__ import annotations

import asyncio
import logging

from aiopype.errors import SourceSilent
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
    source.heard()
    if source.expect_every is None:
        await source.start()
        return
    run = asyncio.create_task(source.start(), name=f"start of {source.name}")
    watch = asyncio.create_task(_watch(source), name=f"silence of {source.name}")
    tasks = {run, watch}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if run.done():
            await run
            return
    finally:
        for task in tasks:
            task.cancel()
        while (await asyncio.wait(tasks, timeout=STOP_SECONDS))[1]:
            logger.error("source %s was cancelled and does not end", source.name)
    if not run.cancelled() and run.exception() is None:
        return
    raise SourceSilent(
        f"nothing came for more than {source.expect_every:g} s, its `expect_every`; "
        "it connects again"
    )


async def _watch(source: Source) -> None:
    """Return when nothing has been heard for too long."""
    assert source.expect_every is not None
    while (left := source.heard_at + source.expect_every - source.clock.monotonic()) > 0:
        await source.clock.sleep(left)
