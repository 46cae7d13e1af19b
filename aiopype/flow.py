"""Flows: start managers, handle their failures, report."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from aiopype import logs
from aiopype.pipelines import Pipelines
from aiopype.protocol.kafka import AsyncProtocol
from aiopype.protocol.sync import SyncProtocol
from aiopype.settings import Settings
from aiopype.supervision import stopped_by_signals

__all__ = ["AsyncFlow", "Flow", "connected"]

logger = logging.getLogger(__name__)


class Flow:
    """Runs managers in this process, without Kafka: for development and back-fills.

    Arguments:
        config: an object with `FLOWS`, the names of the managers to run.
        name: the flow's name; `config.NAME` otherwise, or the name of the file that makes it.
    """

    def __init__(self, config: Any, name: str | None = None) -> None:
        self.config = config
        self.name = name or getattr(config, "NAME", None) or _name_of_caller()
        self._stop: Callable[[], None] = lambda: None

    def build(self) -> Pipelines:
        """Build the managers without starting anything, to look at them.

        Their components' constructors run, with what effects they have.

        Raises:
            ConfigurationError: the configuration or the managers are wrong.
        """
        settings = Settings.load(self.config, self.name)
        return Pipelines(settings.flows, SyncProtocol(), end_with_sources=True)

    def start(self) -> None:
        """Run until every manager has ended or failed, or SIGTERM, SIGINT or `stop()` comes.

        Raises:
            ConfigurationError: the configuration or the managers are wrong; nothing was started.
            SystemExit: with status 1 when a manager failed.
        """
        logs.set_up()
        settings = Settings.load(self.config, self.name)
        pipelines = Pipelines(settings.flows, SyncProtocol(), end_with_sources=True)
        asyncio.run(self._run(pipelines))
        _exit_if_failed(pipelines)

    def stop(self) -> None:
        """End a running flow; may be called from any thread and from handlers."""
        self._stop()

    async def _run(self, pipelines: Pipelines) -> None:
        supervisor = pipelines.supervisor
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._stop = lambda: _threadsafe(loop, stopping.set)
        pipelines.start_sources()
        waits = [
            asyncio.create_task(stopping.wait(), name="wait for stop"),
            asyncio.create_task(supervisor.none_left(), name="wait for the last manager"),
        ]
        with stopped_by_signals(stopping.set):
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        await pipelines.stop_sources()


class AsyncFlow(Flow):
    """Runs managers on Kafka: each event a topic, each subscription a Faust agent.

    Several processes that run the same flow share its work: partitions are spread over them, and
    one of them runs the sources.

    Arguments:
        config: an object with `FLOWS`, and optionally `NAME`, `BROKER` and `DATA_DIR`.
        name: the flow's name, which is its consumer group; `config.NAME` otherwise, or the name of
            the file that makes it.
    """

    def start(self, broker: str | None = None) -> None:
        """Run until SIGTERM, SIGINT or `stop()` comes, or every manager has failed.

        Then the batches in work are finished and committed. Without a configured broker an
        embedded one is started in the data directory, and stopped at the end.

        Arguments:
            broker: `host:port,...`; before the configuration's and the environment's.

        Raises:
            ConfigurationError: the configuration or the managers are wrong; nothing was started.
            BrokerError: no broker can be started or reached.
            WorkerError: the worker could not go on, or did not stop in time.
            SystemExit: with status 1 when a manager failed.
        """
        from aiopype import worker  # noqa: PLC0415 - the protocol in process needs no Faust

        logs.set_up()
        settings = Settings.load(self.config, self.name, broker=broker)
        pipelines = Pipelines(settings.flows, AsyncProtocol())
        with connected(settings) as address:
            running = worker.Worker(settings, address, pipelines)
            self._stop = running.stop
            asyncio.run(running.run())
        _exit_if_failed(pipelines)


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[str]:
    """Give the address of the configured broker, or of an embedded one that runs meanwhile.

    Raises:
        BrokerError: the embedded broker cannot be started.
    """
    if settings.broker is not None:
        yield settings.broker
        return
    from aiopype import broker  # noqa: PLC0415 - costs nothing where a cluster is configured

    with broker.running(settings.data_dir / "kafka") as embedded:
        yield embedded.address


def _threadsafe(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the flow has ended
        loop.call_soon_threadsafe(call)


def _exit_if_failed(pipelines: Pipelines) -> None:
    if pipelines.supervisor.failures:
        raise SystemExit(1)


def _name_of_caller() -> str:
    """Return the stem of the file that makes the flow; the same under every command."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    found = frame.f_globals.get("__file__") if frame is not None else None
    file = Path(found or "flow.py")
    if file.suffix != ".py":
        return "flow"  # standard input, an interactive session
    return file.parent.name if file.stem in {"__init__", "__main__"} else file.stem
