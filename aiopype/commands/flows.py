"""The flow a command is about, and where its broker is."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from aiopype.errors import BrokerError, TargetError
from aiopype.flow import AsyncFlow, embedded_folder
from aiopype.graph import Graph
from aiopype.settings import Settings
from aiopype.target import load_flow

if TYPE_CHECKING:
    from aiopype.transport.reading import Reader, Writer

__all__ = ["Connection", "connection_to", "named", "open_log", "open_pens"]


class Connection(NamedTuple):
    """What it takes to look into the topics of a flow.

    Attributes:
        group: the flow's consumer group.
        brokers: `host:port,...`.
        security: from `connection_options`.
        graph: the flow, as it runs on Kafka.
        managers: their names.
        sources: the names of those that run on one worker each.
    """

    group: str
    brokers: str
    security: dict[str, Any]
    graph: Graph
    managers: tuple[str, ...]
    sources: tuple[str, ...] = ()


def named(target: str | None) -> str:
    """Return the target a command is about: the given one, or that of the project.

    Raises:
        UsageError: there is none.
    """
    target = target or Settings.default_flow()
    if target is None:
        raise click.UsageError(
            "no flow is named: give TARGET, or set AIOPYPE_FLOW or flow in [tool.aiopype]"
        )
    return target


def connection_to(target: str | None, broker: str | None) -> Connection:
    """Return how to reach the topics of the flow of a target; starts and connects nothing.

    Raises:
        UsageError: no flow is named.
        ConfigurationError: there is no such flow, or something is wrong with it.
        BrokerError: no broker is configured, and no embedded one runs.
    """
    from aiopype.transport.security import connection_options  # noqa: PLC0415 - loads aiokafka

    target = named(target)
    flow = load_flow(target)
    if not isinstance(flow, AsyncFlow):
        raise TargetError(f"{target} is a Flow, which runs in process; it has no topics to look at")
    settings = Settings.load(flow.config, flow.name, broker=broker)
    pipelines = flow.build_for_kafka(settings)
    return Connection(
        settings.group,
        settings.broker or _embedded(settings),
        connection_options(settings),
        pipelines.protocol.graph,
        settings.flows,
        tuple(pipelines.sources),
    )


@contextlib.asynccontextmanager
async def open_log(connection: Connection) -> AsyncIterator[Reader]:
    """Connect what reads."""
    from aiopype.transport.reading import Reader  # noqa: PLC0415 - loads aiokafka

    async with Reader(connection.brokers, security=connection.security) as reader:
        yield reader


@contextlib.asynccontextmanager
async def open_pens(connection: Connection) -> AsyncIterator[Writer]:
    """Connect what writes."""
    from aiopype.transport.reading import Writer  # noqa: PLC0415 - loads aiokafka

    async with Writer(connection.brokers, security=connection.security) as writer:
        yield writer


def _embedded(settings: Settings) -> str:
    from aiopype import broker  # noqa: PLC0415 - costs nothing where a cluster is configured

    folder = embedded_folder(settings)
    address = broker.find(folder)
    if address is None:
        raise BrokerError(
            f"no broker is configured, and none runs in {folder}; start the flow first, or give "
            "--broker or AIOPYPE_BROKER"
        )
    return address
