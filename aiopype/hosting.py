"""A flow as a Faust app: which services it has, in which order they start and stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, cast

import faust
from faust.app.base import BootStrategy
from mode import Service, ServiceT
from mode.supervisors import CrashingSupervisor
from yarl import URL

from aiopype.graph import manager_of
from aiopype.pipelines import Pipelines
from aiopype.processor import Source
from aiopype.progress import Progress
from aiopype.protocol.kafka import AsyncProtocol
from aiopype.settings import Settings
from aiopype.supervision import stop_task
from aiopype.transport.admin import Admin
from aiopype.transport.consumer import Consumer
from aiopype.transport.driver import Transport
from aiopype.transport.election import Election
from aiopype.transport.ledger import AtLeastOnce, Ledger
from aiopype.transport.outbox import SourceOutbox
from aiopype.transport.partition import Batch, Delivery
from aiopype.transport.producer import Producer
from aiopype.transport.security import connection_options
from aiopype.transport.settings import (
    HEARTBEAT_SECONDS,
    REBALANCE_SECONDS,
    REQUEST_SECONDS,
    SESSION_SECONDS,
)

__all__ = ["FlowApp", "build_app"]

logger = logging.getLogger(__name__)

#: A stopped source's events have this long to be acknowledged.
FLUSH_SECONDS = 4.0


def build_app(settings: Settings, brokers: str, pipelines: Pipelines) -> FlowApp:
    """Return the app of a flow; nothing is started or connected.

    Arguments:
        settings: of the flow.
        brokers: `host:port,...`.
        pipelines: the flow's managers, on an AsyncProtocol.
    """
    protocol, supervisor = pipelines.protocol, pipelines.supervisor
    assert isinstance(protocol, AsyncProtocol)
    graph = protocol.graph
    app = FlowApp(
        settings.group,
        broker=f"kafka://{brokers.replace(',', ';kafka://')}",
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
    security = connection_options(settings)
    admin = Admin(brokers, graph.unresolved, security=security)
    producer = Producer(brokers, graph, admin, protocol.progress, security=security)
    ledger = Ledger()
    transport = Transport(
        [URL(f"kafka://{address}") for address in brokers.split(",")],
        app,
        graph,
        _Counted(AtLeastOnce(producer, ledger), protocol.progress),
        ledger,
        supervisor.fail,
        supervisor.is_running,
    )
    app.transport = transport
    transport.progress = protocol.progress
    transport.security = security

    def stop_fetching(manager: str) -> None:
        cast("Consumer", app.consumer).stop_topics(transport.topics_of(manager))

    supervisor.on_failure(stop_fetching)
    agents = _Agents(app, transport, protocol)
    sources = _Sources(pipelines, protocol, producer)
    election = Election(
        brokers=brokers,
        flow=settings.group,
        admin=admin,
        on_win=sources.start,
        on_lose=sources.stop,
        security=security,
    )
    app.first_services = [admin, agents, producer]
    app.last_services = [election]
    return app


class _Boot(BootStrategy):
    """Our services around Faust's: topics and producer first, sources last; stopped in reverse."""

    app: FlowApp

    def server(self) -> Iterable[ServiceT]:
        return chain(self.app.first_services, super().server(), self.app.last_services)

    def kafka_producer(self) -> Iterable[ServiceT]:
        return []  # outputs go through our own


class FlowApp(faust.App):
    """A Faust app that ends its sources and its batches before Faust stops the agents."""

    BootStrategy = _Boot
    logger = logging.getLogger("faust.app")  # else mode logs its inner life as this module's

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first_services: Sequence[ServiceT] = ()
        self.last_services: Sequence[ServiceT] = ()
        self.dropped = 0

    async def stop(self) -> None:
        """Stop the sources and finish the batches in work, then stop Faust."""
        if not self.crashed and not self._stopped.is_set():
            drain = cast("Consumer", self.consumer).drain()
            stops = asyncio.gather(*(service.stop() for service in self.last_services))
            self.dropped = await drain
            await stops
        await super().stop()


class _Counted:
    """A delivery whose batches are counted when they are durable."""

    def __init__(self, delivery: Delivery, progress: Progress) -> None:
        self._delivery = delivery
        self._progress = progress

    async def deliver(self, batch: Batch) -> None:
        await self._delivery.deliver(batch)
        partition, last = batch.partition, batch.records[-1]
        self._progress.handled(
            partition.topic.name, partition.number, len(batch.records), last.timestamp,
            batch.position,
        )  # fmt: skip


class _Sources:
    """The sources of this worker while it owns them, each with its outbox."""

    def __init__(self, pipelines: Pipelines, protocol: AsyncProtocol, producer: Producer) -> None:
        self._pipelines = pipelines
        self._protocol = protocol
        self._producer = producer
        self._senders: list[tuple[SourceOutbox, asyncio.Task[None]]] = []

    async def start(self) -> None:
        """Start every source that has not ended."""
        logger.info("this worker runs the sources")

        def open_outbox(source: Source) -> None:
            outbox = SourceOutbox(source.name, self._producer)
            self._protocol.open_outbox(source.name, outbox)
            self._protocol.progress.sources.add(source.name)
            manager = manager_of(source.name)
            sender = self._pipelines.supervisor.start(
                f"outbox of {source.name}", manager, outbox.run()
            )
            self._senders.append((outbox, sender))

        self._pipelines.start_sources(open_outbox)

    async def stop(self) -> None:
        """Stop them and send what they emitted, 9 seconds at most."""
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
        self._protocol.progress.sources.clear()
        logger.info("the sources are stopped here")


class _Agents(Service):
    """Declares a Faust agent for each subscription, as many at once as its topic has partitions.

    A service, because the number of partitions is known only when the topics exist.
    """

    mundane_level = "debug"

    def __init__(self, app: FlowApp, transport: Transport, protocol: AsyncProtocol) -> None:
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
