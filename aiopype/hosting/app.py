"""A flow as a Faust app: which services it has, in which order they start and stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, cast

import faust
from faust.app.base import BootStrategy
from mode import ServiceT
from mode.supervisors import CrashingSupervisor
from yarl import URL

from aiopype.errors import ConfigurationError
from aiopype.health import Health
from aiopype.hosting.measuring import metrics_of
from aiopype.hosting.services import Agents, Counted, LoopDelay, Restarts, Web
from aiopype.hosting.sources import OwnedSources
from aiopype.metrics import Metrics
from aiopype.ownership import worker_name
from aiopype.pipelines import Pipelines
from aiopype.protocol.kafka import AsyncProtocol
from aiopype.readiness import add_checks
from aiopype.settings import Settings
from aiopype.settings.values import GUARANTEES
from aiopype.transport.admin import Admin
from aiopype.transport.batches import Delivery
from aiopype.transport.condition import condition_of
from aiopype.transport.consumer import Consumer
from aiopype.transport.driver import Transport
from aiopype.transport.exactly_once import ExactlyOnce
from aiopype.transport.ledger import AtLeastOnce, Ledger
from aiopype.transport.limits import Limits
from aiopype.transport.offsets import Offsets
from aiopype.transport.parked_topics import ParkedTopics
from aiopype.transport.partition import Partition
from aiopype.transport.producer import Producer
from aiopype.transport.security import connection_options
from aiopype.transport.settings import (
    HEARTBEAT_SECONDS,
    REBALANCE_SECONDS,
    REQUEST_SECONDS,
    SESSION_SECONDS,
)
from aiopype.transport.transactions import TransactionalProducer
from aiopype.watchdog import Condition

__all__ = ["FlowApp", "build_app"]

logger = logging.getLogger(__name__)


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
        broker_client_id=worker_name(),  # so the group says whose its members are
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        broker_rebalance_timeout=REBALANCE_SECONDS,
        broker_request_timeout=REQUEST_SECONDS,
    )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    security = connection_options(settings)
    admin = Admin(brokers, graph.unresolved, security=security)
    limits = Limits(graph, admin)
    producer = Producer(brokers, limits, protocol.progress, security=security)
    ledger = Ledger()
    delivered = protocol.progress.deliveries["events"]
    exactly_once = ExactlyOnce(
        settings.group,
        lambda name: TransactionalProducer(brokers, name, security, figures=delivered),
        ledger,
        limits,
        protocol.progress,
    )
    kinds: dict[str, Delivery] = {
        "exactly_once": Counted(exactly_once, protocol.progress),
        "at_least_once": Counted(AtLeastOnce(producer, ledger, delivered), protocol.progress),
    }
    transport = Transport(
        [URL(f"kafka://{address}") for address in brokers.split(",")],
        app,
        graph,
        {m: kinds[guarantee] for m, guarantee in _guarantees(settings, pipelines).items()},
        ledger,
        ParkedTopics(brokers, graph, admin, security),
        supervisor,
    )
    app.transport = transport
    transport.progress = protocol.progress
    transport.security = security
    transport.traced = protocol

    def stop_fetching(manager: str) -> None:
        cast("Consumer", app.consumer).stop_topics(transport.topics_of(manager))

    def fetch_again(manager: str) -> None:
        cast("Consumer", app.consumer).resume_topics(transport.topics_of(manager))

    # Of a source they get the name too, which has no topics here: its manager is fetched on.
    supervisor.on_failure(stop_fetching)
    supervisor.on_restart(fetch_again)
    agents = Agents(app, transport, protocol)
    owned = OwnedSources(settings, brokers, pipelines, admin, limits)
    offsets = Offsets(brokers, graph, protocol.progress, app.committed, security=security)
    measuring = [offsets, LoopDelay(protocol.progress)]
    app.first_services = [admin, *measuring, agents, producer, exactly_once]
    app.owns = owned
    app.last_services = [owned, Restarts(supervisor)]
    app.health = Health(settings.name)
    app.metrics = metrics_of(settings.name, app, pipelines, ledger)
    add_checks(app.health, app, app.consumer_condition, pipelines)
    app.health.add("sources", owned.problem)
    if settings.web_port != 0:
        app.first_services = [Web(settings, app.health, app.metrics), *app.first_services]
    return app


def _guarantees(settings: Settings, pipelines: Pipelines) -> dict[str, str]:
    """Return what each manager promises of its events.

    Raises:
        ConfigurationError: a manager's guarantee is none.
    """
    found = {str(m.name): m.guarantee or settings.guarantee for m in pipelines.managers}
    for manager, guarantee in found.items():
        if guarantee not in GUARANTEES:
            raise ConfigurationError(
                f"manager {manager!r}: guarantee {guarantee!r} is not known; "
                f"write {' or '.join(GUARANTEES)}"
            )
    return found


class _Boot(BootStrategy):
    """Our services around Faust's: topics and producer first, sources last; stopped in reverse."""

    app: FlowApp
    enable_web = False  # `faust worker` would start Faust's own, beside ours and for everybody

    def server(self) -> Iterable[ServiceT]:
        return chain(self.app.first_services, super().server(), self.app.last_services)

    def kafka_producer(self) -> Iterable[ServiceT]:
        return []  # outputs go through our own


class FlowApp(faust.App):
    """A Faust app that ends its sources and its batches before Faust stops the agents.

    Attributes:
        health: the checks that make this worker ready; whoever knows of one more adds it.
        metrics: what it counts; likewise.
        owns: runs the sources that are this worker's.
    """

    health: Health
    metrics: Metrics
    owns: OwnedSources

    BootStrategy = _Boot
    logger = logging.getLogger("faust.app")  # else mode logs its inner life as this module's

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first_services: Sequence[ServiceT] = ()
        self.last_services: Sequence[ServiceT] = ()
        self.dropped = 0
        self._is_stopping = False

    @property
    def is_stopping(self) -> bool:
        """Whether the worker stops, its last batches included."""
        return self._is_stopping or self.should_stop

    @property
    def partitions(self) -> Iterable[Partition]:
        """The partitions of events that are this worker's."""
        consumer = cast("Consumer | None", self._consumer)
        return () if consumer is None else consumer.partitions.values()

    async def committed(self, topic: str, partition: int) -> int | None:
        """Return up to where the group says that a partition is handled; raises a KafkaError."""
        return await cast("Consumer", self.consumer).committed_offset(topic, partition)

    def consumer_condition(self) -> Condition:
        """Return the condition of the consumer of events."""
        consumer = cast("Consumer | None", self._consumer)
        return Condition() if consumer is None else condition_of(consumer)

    def condition(self) -> Condition:
        """Return what the watchdog wants to know."""
        if self._consumer is None:
            return Condition()
        found = self.consumer_condition()
        return replace(found, is_member=found.is_member and self.owns.is_member)

    async def stop(self) -> None:
        """Stop the sources and finish the batches in work, then stop Faust."""
        self._is_stopping = True
        if not self.crashed and not self._stopped.is_set():
            drain = cast("Consumer", self.consumer).drain()
            stops = asyncio.gather(*(service.stop() for service in self.last_services))
            self.dropped = await drain
            await stops
        await super().stop()
