"""The worker: a flow as a Faust app, from the first topic to the last commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, cast

import faust
from faust.app.base import BootStrategy
from mode import Service, ServiceT
from mode.supervisors import CrashingSupervisor
from yarl import URL

from aiopype.errors import WorkerError
from aiopype.graph import manager_of
from aiopype.pipelines import Pipelines
from aiopype.processor import Source
from aiopype.protocol.kafka import AsyncProtocol
from aiopype.settings import Settings
from aiopype.supervision import stop_task
from aiopype.transport.admin import Admin
from aiopype.transport.consumer import Consumer
from aiopype.transport.driver import Transport
from aiopype.transport.election import Election
from aiopype.transport.ledger import AtLeastOnce, Ledger
from aiopype.transport.outbox import SourceOutbox
from aiopype.transport.producer import Producer
from aiopype.transport.settings import (
    HEARTBEAT_SECONDS,
    REBALANCE_SECONDS,
    REQUEST_SECONDS,
    SESSION_SECONDS,
)

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

#: A stopped source's events have this long to be acknowledged.
FLUSH_SECONDS = 4.0

#: The whole stop; after it the process ends with status 1, and what was not committed is done
#: again by the next worker.
STOP_SECONDS = 14.0


class _Boot(BootStrategy):
    """Our services around Faust's: topics and producer first, sources last; stopped in reverse."""

    app: _App

    def server(self) -> Iterable[ServiceT]:
        return chain(self.app.first_services, super().server(), self.app.last_services)

    def kafka_producer(self) -> Iterable[ServiceT]:
        return []  # outputs go through our own


class _App(faust.App):
    """A Faust app that ends its sources and its batches before Faust stops the agents."""

    BootStrategy = _Boot
    logger = logging.getLogger("faust.app")  # else mode logs its inner life as this module's

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first_services: Sequence[ServiceT] = ()
        self.last_services: Sequence[ServiceT] = ()

    async def stop(self) -> None:
        if not self.crashed and not self._stopped.is_set():
            drain = cast("Consumer", self.consumer).drain()
            await asyncio.gather(drain, *(service.stop() for service in self.last_services))
        await super().stop()


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
        protocol = pipelines.protocol
        assert isinstance(protocol, AsyncProtocol)
        self._protocol = protocol
        self._senders: list[tuple[SourceOutbox, asyncio.Task[None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def stop(self) -> None:
        """End the run; may be called from any thread and from handlers."""
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def run(self) -> None:
        """Run until `stop`, SIGTERM or SIGINT, or until every manager has failed.

        Raises:
            BrokerError: the broker cannot be reached, or a topic cannot be created.
            WorkerError: it could not go on, or did not stop in time.
        """
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        app = self._build()
        with _signals(self._loop, self._stopping):
            try:
                await _first_of(
                    self._live(app), self._stopping.wait(), self._pipelines.supervisor.none_left()
                )
            finally:
                await self._shut_down(app)
        if app.crash_reason is not None:
            reason = app.crash_reason
            raise WorkerError(f"the worker could not go on: {reason!r}") from reason

    async def _live(self, app: _App) -> None:
        await app.start()
        logger.info("flow %s is up on %s", self._settings.name, self._brokers)
        await app.wait_until_stopped()

    async def _shut_down(self, app: _App) -> None:
        logger.info("stopping: batches in work are finished and committed")
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await app.stop()
        except TimeoutError:
            raise WorkerError(f"the worker did not stop in {STOP_SECONDS:g} s") from None
        logger.info("stopped")

    def _build(self) -> _App:
        settings, supervisor = self._settings, self._pipelines.supervisor
        graph = self._protocol.graph
        app = _App(
            settings.name,
            broker=f"kafka://{self._brokers.replace(',', ';kafka://')}",
            datadir=settings.data_dir / "faust",
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            agent_supervisor=CrashingSupervisor,
            stream_wait_empty=False,
            broker_session_timeout=SESSION_SECONDS,
            broker_heartbeat_interval=HEARTBEAT_SECONDS,
            broker_rebalance_timeout=REBALANCE_SECONDS,
            broker_request_timeout=REQUEST_SECONDS,
        )
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        admin = Admin(self._brokers, graph.unresolved)
        producer = Producer(self._brokers, graph, admin)
        ledger = Ledger()
        transport = Transport(
            [URL(f"kafka://{address}") for address in self._brokers.split(",")],
            app,
            graph,
            AtLeastOnce(producer, ledger),
            ledger,
            supervisor.fail,
            supervisor.is_running,
        )
        app.transport = transport

        def stop_fetching(manager: str) -> None:
            cast("Consumer", app.consumer).stop_topics(transport.topics_of(manager))

        supervisor.on_failure(stop_fetching)
        agents = _Agents(app, transport, self._protocol)
        election = Election(
            brokers=self._brokers,
            flow=settings.name,
            admin=admin,
            on_win=lambda: self._start_sources(producer),
            on_lose=self._stop_sources,
        )
        app.first_services = [admin, agents, producer]
        app.last_services = [election]
        return app

    async def _start_sources(self, producer: Producer) -> None:
        logger.info("this worker runs the sources")

        def open_outbox(source: Source) -> None:
            outbox = SourceOutbox(source.name, producer)
            self._protocol.open_outbox(source.name, outbox)
            manager = manager_of(source.name)
            sender = self._pipelines.supervisor.start(
                f"outbox of {source.name}", manager, outbox.run()
            )
            self._senders.append((outbox, sender))

        self._pipelines.start_sources(open_outbox)

    async def _stop_sources(self) -> None:
        await self._pipelines.stop_sources()
        senders, self._senders = self._senders, []
        flushes = [asyncio.ensure_future(outbox.flush()) for outbox, task in senders
                   if not task.done()]  # fmt: skip
        if flushes:
            _, late = await asyncio.wait(flushes, timeout=FLUSH_SECONDS)
            for flush in late:
                flush.cancel()
                logger.error("events of a source were not acknowledged in %g s", FLUSH_SECONDS)
        for _, task in senders:
            await stop_task(task, 1.0)
        for component in self._protocol.components:
            self._protocol.close_outbox(component.name)
        logger.info("the sources are stopped here")


class _Agents(Service):
    """Declares a Faust agent for each subscription, as many at once as its topic has partitions.

    A service, because the number of partitions is known only when the topics exist.
    """

    mundane_level = "debug"

    def __init__(self, app: _App, transport: Transport, protocol: AsyncProtocol) -> None:
        super().__init__()
        self._app = app
        self._agents = []
        for topic, subscriptions in protocol.graph.subscribed():
            for subscription in subscriptions:
                # acks=False: Faust shall count no offset of it.
                channel = app.topic(topic.name, acks=False, allow_empty=True)
                agent = app.agent(channel, name=subscription.name)(transport.agent(subscription))
                self._agents.append((agent, topic))

    async def on_start(self) -> None:
        for agent, topic in self._agents:
            agent.concurrency = topic.partitions or 1


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


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> Iterator[None]:
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
