"""Flows: start managers, handle their failures, report."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any, Protocol

from aiopype import logs
from aiopype.errors import ConfigurationError
from aiopype.pipelines import Pipelines
from aiopype.playback import Replay, playing
from aiopype.protocol.kafka import AsyncProtocol
from aiopype.protocol.sync import SyncProtocol
from aiopype.protocol.wiring import Wiring
from aiopype.reporting import report_errors_to
from aiopype.settings import Settings
from aiopype.settings.files import project_folder
from aiopype.supervision import stopped_by_signals
from aiopype.topics import read_plan
from aiopype.tracing import traced

__all__ = ["AsyncFlow", "Flow", "connected", "embedded_folder"]

logger = logging.getLogger(__name__)


class Flow:
    """Runs managers in this process, without Kafka: for development and back-fills.

    Arguments:
        config: an object with `FLOWS`, the names of the managers to run.
        name: the flow's name; `config.NAME` otherwise, or the name of the file that makes it.

    Attributes:
        file: the file that makes the flow; None in an interactive session.
        live: whether `start` shows a live view in the terminal; `aiopype run` sets it.
        replay: the recording that `start` plays in place of its sources; likewise.
        log_level: from which level on `start` logs, before the configuration's; likewise.
        worker_number: of this process among those under one command, in each line of the log.
    """

    live = False
    replay: Replay | None = None
    log_level: str | None = None
    worker_number: int | None = None

    def __init__(self, config: Any, name: str | None = None) -> None:
        self.config = config
        self.file = _file_of_caller()
        self.name = name or getattr(config, "NAME", None) or _name_of(self.file)
        self._stop: Callable[[], None] = lambda: None

    def build(self, protocol: Wiring | None = None, **options: Any) -> Pipelines:
        """Build the managers without starting anything, to look at them.

        Their components' constructors run, with what effects they have.

        Arguments:
            protocol: what they are built for; a SyncProtocol if not given.
            options: further ones of `Pipelines`.

        Raises:
            ConfigurationError: the configuration, the managers or their topics are wrong.
        """
        settings = Settings.load(self.config, self.name)
        protocol = protocol or SyncProtocol()
        return self._build(settings, protocol, end_with_sources=True, **options)

    def start(self) -> None:
        """Run until every manager has ended, or SIGTERM, SIGINT or `stop()` comes.

        A source that raises is started again, from its beginning, as its manager's `restarts` says.
        What is in quarantine is not waited for when all else has ended. Where there is a `replay`
        the sources do not start; it ends when the recording is through.

        Raises:
            ConfigurationError: the configuration, the managers or the recording are wrong; nothing
                was started.
            SystemExit: with status 1 when a source is in quarantine and nothing else is left.
        """
        self.set_up_logs()
        settings = Settings.load(self.config, self.name)
        pipelines = self.build()
        with (
            playing(self.replay, pipelines, in_order=True),
            self._reporting(pipelines, settings) as report,
        ):
            asyncio.run(report.around(self._run(pipelines)))
        if pipelines.supervisor.has_given_up:
            raise SystemExit(1)

    def set_up_logs(self) -> None:
        """Log as the settings say, unless the program has configured logging itself.

        Raises:
            ConfigurationError: `log_format` or `log_level` is no word for one.
        """
        form, level = Settings.of_logs(self.config, log_level=self.log_level)
        logs.set_up(form, level, flow=self.name, worker=self.worker_number)

    def stop(self) -> None:
        """End a running flow; may be called from any thread and from handlers."""
        self._stop()

    def _build(self, settings: Settings, protocol: Wiring, **options: Any) -> Pipelines:
        roots = (self.file and self.file.parent, project_folder(Path.cwd()))
        folders = [root / "topics" for root in roots if root is not None]
        topics = read_plan(settings.flows, folders, settings.namespace)
        return Pipelines(settings.flows, protocol, topics=topics, **options)

    @contextlib.contextmanager
    def _reporting(self, pipelines: Pipelines, settings: Settings) -> Iterator[_Report]:
        """Give what reports on the run; it tells at the end what was done, if anything was.

        Errors go to Sentry meanwhile, if a DSN is set.
        """
        report: _Report = _LogReport(pipelines)
        if self.live:
            from aiopype import live  # noqa: PLC0415 - rich takes a tenth of a second

            report = live.View(self.name, pipelines)
        with (
            report_errors_to(settings.sentry_dsn, settings.name),
            traced(pipelines.protocol, settings),
        ):
            try:
                yield report
            except BaseException:
                if pipelines.protocol.progress.topics:  # else it never came to work
                    report.tell()
                raise
            report.tell()

    async def _run(self, pipelines: Pipelines) -> None:
        supervisor = pipelines.supervisor
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._stop = lambda: _threadsafe(loop, stopping.set)
        pipelines.protocol.progress.sources.update(pipelines.sources)
        pipelines.start_sources()
        waits = [
            asyncio.create_task(stopping.wait(), name="wait for stop"),
            asyncio.create_task(supervisor.none_left(), name="wait for the last manager"),
        ]
        with stopped_by_signals(stopping.set):
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        supervisor.stop()
        await pipelines.stop_sources()


class AsyncFlow(Flow):
    """Runs managers on Kafka: each event a topic, each subscription a Faust agent.

    Several processes that run the same flow share its work: partitions are spread over them, and
    one of them runs the sources.

    Arguments:
        config: an object with `FLOWS`, and optionally other settings (docs/configuration.md).
        name: the flow's name, which is its consumer group; `config.NAME` otherwise, or the name of
            the file that makes it.

    Attributes:
        web_host: where `start` answers, before the configuration's; `aiopype run` sets it.
    """

    web_host: str | None = None

    def in_process(self) -> Flow:
        """Return the same flow as one that runs in this process, without Kafka."""
        flow = Flow(self.config, self.name)
        flow.file = self.file
        flow.replay = self.replay
        flow.log_level = self.log_level
        return flow

    def build_for_kafka(self, settings: Settings) -> Pipelines:
        """Build the managers as they run on Kafka, without starting anything.

        Raises:
            ConfigurationError: the managers or their topics are wrong.
        """
        return self._build(settings, AsyncProtocol(), with_replays=True)

    def start(self, broker: str | None = None, *, web_port: int | None = None) -> None:
        """Run until SIGTERM, SIGINT or `stop()` comes.

        Then the batches in work are finished and committed. Managers and sources that fail are
        started again. Without a configured broker an embedded one is started in the data
        directory, and stopped at the end.

        Where there is a `replay` the sources do not start, and it ends when the recording is
        through and everything is handled. It has a namespace of its own, so that nothing of the
        real flow is touched: no topic, no position, no consumer group.

        Arguments:
            broker: `host:port,...`; before the configuration's and the environment's.
            web_port: where health and metrics are, 0 for nowhere; likewise.

        Raises:
            ConfigurationError: the configuration, the managers or the recording are wrong; nothing
                was started.
            BrokerError: no broker can be started or reached.
            WorkerError: the worker could not go on, or did not stop in time.
        """
        from aiopype import worker  # noqa: PLC0415 - the protocol in process needs no Faust

        self.set_up_logs()
        settings = self.settings(broker=broker, web_port=web_port, web_host=self.web_host)
        pipelines = self.build_for_kafka(settings)
        with (
            playing(self.replay, pipelines) as playback,
            self._reporting(pipelines, settings) as report,
            connected(settings) as address,
        ):
            running = worker.Worker(settings, address, pipelines)
            self._stop = running.stop
            run = running.run()
            if playback is not None:
                from aiopype import completion  # noqa: PLC0415 - as the worker

                watch = completion.until_played(settings, address, pipelines, playback)
                run = completion.stopped_after(watch, run, running.stop)
            asyncio.run(report.around(run, address))

    def settings(self, **given: Any) -> Settings:
        """Return the settings with which the flow runs on Kafka; of a replay its own namespace too.

        Arguments:
            given: what comes before the configuration, by setting; None is nothing.

        Raises:
            ConfigurationError: the configuration is wrong.
        """
        settings = Settings.load(self.config, self.name, **given)
        if self.replay is None:
            return settings
        names = [settings.namespace, self.replay.namespace]
        given["namespace"] = ".".join(name for name in names if name)
        return Settings.load(self.config, self.name, **given)


class _Report(Protocol):
    """Looks on while a flow runs, and tells what it has done."""

    async def around(self, run: Coroutine[Any, Any, None], broker: str | None = None) -> None:
        """Await `run`; `broker` is what the flow is connected to, if to any."""

    def tell(self) -> None:
        """Say what the run has done."""


class _LogReport:
    """Says it in one line of the log."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._progress = pipelines.protocol.progress
        self._began = monotonic()

    async def around(self, run: Coroutine[Any, Any, None], broker: str | None = None) -> None:
        self._began = monotonic()
        await run

    def tell(self) -> None:
        logger.info(self._progress.summary(monotonic() - self._began))


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[str]:
    """Give the address of the configured broker, or of an embedded one that runs meanwhile.

    Raises:
        BrokerError: the embedded broker cannot be started.
        ConfigurationError: TLS or SASL is wanted, which the embedded broker does not have.
    """
    if settings.broker is not None:
        yield settings.broker
        return
    from aiopype import broker  # noqa: PLC0415 - costs nothing where a cluster is configured

    with broker.running(embedded_folder(settings)) as embedded:
        yield embedded.address


def embedded_folder(settings: Settings) -> Path:
    """Return the data directory of the embedded broker of a flow without a configured one.

    Raises:
        ConfigurationError: TLS or SASL is wanted, which the embedded broker does not have.
    """
    if settings.security_protocol not in {None, "PLAINTEXT"}:
        raise ConfigurationError(
            f"security_protocol {settings.security_protocol} is for a cluster, and none is set; "
            "set AIOPYPE_BROKER or --broker"
        )
    return settings.data_dir / "kafka"


def _threadsafe(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the flow has ended
        loop.call_soon_threadsafe(call)


def _file_of_caller() -> Path | None:
    """Return the file that makes the flow; None for standard input and interactive sessions."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    found = frame.f_globals.get("__file__") if frame is not None else None
    file = Path(found) if found else None
    return file.absolute() if file is not None and file.suffix == ".py" else None


def _name_of(file: Path | None) -> str:
    """Return the stem of the file that makes the flow; the same under every command."""
    if file is None:
        return "flow"
    return file.parent.name if file.stem in {"__init__", "__main__"} else file.stem
