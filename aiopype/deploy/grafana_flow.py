"""A row for each manager of a flow, with its components in the order of its graph."""

from __future__ import annotations

from collections.abc import Iterator

from aiopype.deploy.grafana_panels import Look, Panel, PanelRow, Panels
from aiopype.deploy.grafana_queries import Queries
from aiopype.graph import Graph
from aiopype.manager import Manager
from aiopype.pipelines import Pipelines
from aiopype.source import Source

__all__ = ["manager_rows"]


def manager_rows(pipelines: Pipelines) -> tuple[PanelRow, ...]:
    """Return a row for each manager, in the order of the configuration."""
    graph = pipelines.protocol.graph
    return tuple(
        PanelRow(f"Manager {manager.name}", tuple(_panels(manager, graph)))
        for manager in pipelines.managers
    )


def _panels(manager: Manager, graph: Graph) -> Iterator[Panel]:
    handling = {s.component for _, found in graph.subscribed() for s in found}
    for component in manager.components:
        name = component.name.removeprefix(f"{manager.name}.")
        queries = Queries(manager=str(manager.name), component=name)
        if isinstance(component, Source):
            yield from _source(name, queries)
        elif component.name in handling:
            yield from _processor(name, queries)
        else:
            yield _events(name, queries)


def _source(name: str, queries: Queries) -> tuple[Panel, ...]:
    panels = Panels(queries)
    return (
        _events(name, queries),
        Panel(
            f"{name}: state",
            (queries.state("aiopype_source_state", "component"),),
            look=Look.STATES,
            width=6,
            alerts=("AiopypeSourceQuarantined", "AiopypeSourceUnowned"),
        ),
        panels.ages(
            f"{name}: since something was written",
            "aiopype_source_last_event_timestamp_seconds",
            "component",
            alerts=("AiopypeSourceSilent",),
        )._replace(width=6),
        panels.rates(
            f"{name}: requests, polls and connections",
            "aiopype_source_attempts_total",
            "outcome",
            unit="ops",
            alerts=("AiopypeSourceSilent",),
        )._replace(width=6),
    )


def _processor(name: str, queries: Queries) -> tuple[Panel, ...]:
    panels = Panels(queries)
    return (
        panels.rates(
            f"{name}: results of its handlers",
            "aiopype_subscription_events_total",
            "outcome",
            alerts=("AiopypeErrors",),
        )._replace(width=6),
        panels.quantiles(f"{name}: handling an event", "aiopype_handling_seconds")._replace(
            width=6
        ),
        _events(name, queries),
        panels.rates(
            f"{name}: errors by class", "aiopype_errors_total", "error", alerts=("AiopypeErrors",)
        )._replace(width=6),
    )


def _events(name: str, queries: Queries) -> Panel:
    """Return what becomes of the component's events."""
    rate = queries.rate("aiopype_events_total", "event", "outcome")
    return Panel(f"{name}: its events", (rate,), "eps", width=6)
