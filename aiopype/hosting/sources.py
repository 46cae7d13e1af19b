"""The services by which a worker owns sources, started and stopped as one."""

from __future__ import annotations

import logging

from mode import Service

from aiopype.health import Problem
from aiopype.ownership import Member, worker_name
from aiopype.pipelines import Pipelines
from aiopype.protocol.kafka import AsyncProtocol
from aiopype.settings import Settings
from aiopype.sourcing import Sources
from aiopype.transport.admin import Admin
from aiopype.transport.clients import Clients
from aiopype.transport.election import Election
from aiopype.transport.limits import Limits
from aiopype.transport.owning import Owning
from aiopype.transport.security import connection_options
from aiopype.transport.source_states import SourceStates, new_state_topic
from aiopype.transport.transactions import TransactionalProducer
from aiopype.transport.wishes import Wishes

__all__ = ["OwnedSources"]

logger = logging.getLogger(__name__)


class OwnedSources(Service):
    """Joins the group that spreads the sources, and runs those that are this worker's.

    Arguments:
        settings: of the flow.
        brokers: `host:port,...`.
        pipelines: the flow's managers, on an AsyncProtocol.
        admin: creates topics.
        limits: knows what topics take.
    """

    logger = logger
    mundane_level = "debug"

    def __init__(
        self, settings: Settings, brokers: str, pipelines: Pipelines, admin: Admin, limits: Limits
    ) -> None:
        super().__init__()
        protocol = pipelines.protocol
        assert isinstance(protocol, AsyncProtocol)
        security = connection_options(settings)
        pipelines.supervisor.on_error(protocol.progress.errors.add)
        topic = new_state_topic(settings.group)
        protocol.graph.unresolved.add(topic)
        self._worker = worker_name()
        self._names = tuple(pipelines.sources)
        self._brokers = brokers
        self._security = security
        graph = protocol.graph
        self._clients = Clients(
            brokers, security, lambda: [t.name for t in graph.topics() if t.partitions is not None]
        )
        self._pins: dict[str, str] = {}
        self._figures = protocol.progress.deliveries["source"]
        self._states = SourceStates(brokers, topic, security)
        self._wishes = Wishes(
            brokers=brokers,
            group=settings.group,
            admin=admin,
            on_change=self._wished,
            security=security,
        )
        self._election = Election(
            brokers=brokers,
            group=settings.group,
            member=self._member,
            on_assigned=self._assigned,
            on_lost=self._lost,
            security=security,
        )
        owning = Owning(
            group=settings.group,
            worker=self._worker,
            connect=self._connect,
            confirm=self._election.confirm,
            states=self._states,
            limits=limits,
            progress=protocol.progress,
            traced=protocol,
        )
        self.sources = Sources(pipelines, protocol, owning, self._wishes.of)

    @property
    def is_member(self) -> bool:
        """Whether it is in the group, or needs to be in none."""
        return self._election.is_member or not self._names

    @property
    def rebalances(self) -> int:
        """How often the group has spread the sources anew."""
        return self._election.rebalances

    def problem(self) -> Problem | None:
        """Return what keeps this worker from running sources; a check of its health."""
        if self.is_member:
            return None
        return Problem("it is out of the group that spreads the sources, and joins again")

    async def on_start(self) -> None:
        """Learn what is wished, then join the group."""
        if self._names:
            await self._clients.start()
            await self._wishes.start()
            self._pins = self._wishes.pins
            self.sources.start(self._election.rejoin)
            await self._election.start()

    async def on_stop(self) -> None:
        """Stop the sources and write what they emitted, then leave the group: others go on."""
        await self.sources.stop()
        await self._election.stop()
        await self._wishes.stop()
        await self._states.stop()
        await self._clients.stop()

    def _member(self) -> Member:
        return Member(
            worker=self._worker,
            can=self._names,
            runs=self.sources.held,
            wishes=self._wishes.of,
            wishes_at=self._wishes.position,
        )

    def _assigned(self, names: frozenset[str]) -> None:
        self.sources.assign(names)

    def _lost(self, reason: str) -> None:
        self.sources.suspend(reason)

    def _wished(self) -> None:
        self.sources.look_again()
        pins = self._wishes.pins
        if pins != self._pins:
            self._pins = pins
            self._election.rejoin()

    async def _connect(self, transactional_id: str) -> TransactionalProducer:
        client = await self._clients.next()
        return TransactionalProducer(
            self._brokers, transactional_id, self._security, client, self._figures
        )
