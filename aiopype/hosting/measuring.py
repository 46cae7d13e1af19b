"""The metrics of a worker: each collector with what it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from aiopype.metrics import (
    BrokerCollector,
    EventCollector,
    Metrics,
    PartitionCollector,
    ProcessFigures,
    StateCollector,
    SubscriptionCollector,
    WorkerCollector,
)
from aiopype.metrics.sources import SourceCollector
from aiopype.pipelines import Pipelines
from aiopype.transport.ledger import Ledger
from aiopype.transport.partition import Partition

if TYPE_CHECKING:
    from aiopype.hosting.app import FlowApp

__all__ = ["metrics_of"]


def metrics_of(flow: str, app: FlowApp, pipelines: Pipelines, ledger: Ledger) -> Metrics:
    """Return all metrics of a worker.

    Arguments:
        flow: the flow's name.
        app: has the worker's health, partitions and groups.
        pipelines: the flow's managers.
        ledger: commits offsets.
    """
    graph, progress = pipelines.protocol.graph, pipelines.protocol.progress

    def owned() -> Iterable[Partition]:
        return app.partitions

    def rebalances() -> Mapping[str, int]:
        return {"events": app.rebalancing_count, "sources": app.owns.rebalances}

    return Metrics(
        WorkerCollector(flow, app.health, progress),
        StateCollector(flow, pipelines.supervisor, progress),
        EventCollector(flow, graph, progress),
        SubscriptionCollector(flow, graph, progress),
        PartitionCollector(flow, graph, progress, owned),
        BrokerCollector(flow, progress, ledger, rebalances),
        SourceCollector(flow, pipelines.sources, progress),
        ProcessFigures(),
    )
