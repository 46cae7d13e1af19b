"""The worker: runs a flow's Faust app until it is stopped, or cannot go on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from aiopype.errors import WorkerError
from aiopype.hosting import FlowApp, build_app
from aiopype.pipelines import Pipelines
from aiopype.settings import Settings
from aiopype.supervision import stopped_by_signals
from aiopype.transport.settings import DRAIN_SECONDS
from aiopype.watchdog import Limits, Watchdog

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

#: The whole stop; after it the process ends with status 1, and what was not committed is done
#: again by the next worker.
STOP_SECONDS = 14.0


class Worker:
    """Runs a flow on Kafka until it is stopped, or cannot go on.

    Arguments:
        settings: of the flow.
        brokers: `host:port,...`.
        pipelines: the flow's managers, on an AsyncProtocol.
    """

    def __init__(self, settings: Settings, brokers: str, pipelines: Pipelines) -> None:
        self._settings = settings
        self._brokers = brokers
        self._pipelines = pipelines
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def stop(self) -> None:
        """End the run; may be called from any thread and from handlers."""
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def run(self) -> None:
        """Run until `stop`, SIGTERM or SIGINT.

        Raises:
            BrokerError: the broker cannot be reached, or a topic cannot be created.
            WorkerError: it could not go on, or did not stop in time.
        """
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        app = self.app = build_app(self._settings, self._brokers, self._pipelines)
        watchdog = Watchdog(self._loop, app.condition, Limits.of(self._settings))
        with watchdog, stopped_by_signals(self._stopping.set):
            try:
                await _first_of(self._live(app), self._stopping.wait())
            finally:
                watchdog.expect_end()
                await self._shut_down(app)
        if app.crash_reason is not None:
            reason = app.crash_reason
            raise WorkerError(f"the worker could not go on: {reason!r}") from reason
        if app.dropped:
            raise WorkerError(
                f"{app.dropped} batches in work did not end in {DRAIN_SECONDS:g} s; "
                "they are not committed and will be handled again"
            )

    async def _live(self, app: FlowApp) -> None:
        await app.start()
        logger.info("flow %s is up on %s", self._settings.name, self._brokers)
        await app.wait_until_stopped()

    async def _shut_down(self, app: FlowApp) -> None:
        logger.info("stopping: batches in work are finished and committed")
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await app.stop()
        except TimeoutError:
            raise WorkerError(f"the worker did not stop in {STOP_SECONDS:g} s") from None
        logger.info("stopped")


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of these ends, cancel the others; raise what the one that ended raised."""
    tasks = [asyncio.create_task(wait, name="worker") for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
