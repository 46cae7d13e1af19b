"""Panels and rows as data; `grafana` draws them up for Grafana."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from aiopype.deploy.grafana_queries import Queries, Query
from aiopype.metrics.definitions import METRICS

__all__ = ["QUANTILES", "Look", "Panel", "PanelRow", "Panels"]

#: Of every histogram.
QUANTILES = (0.5, 0.95, 0.99)


class Look(StrEnum):
    """How a panel shows its series."""

    LINES = "lines"
    STACKED = "stacked"
    NUMBER = "number"
    STATES = "states"
    TABLE = "table"


class Panel(NamedTuple):
    """One panel.

    Attributes:
        title: what it shows, in a few words.
        queries: what it asks.
        unit: Grafana's name of it.
        look: how it shows it.
        width: of 24.
        height: in Grafana's steps.
        limits: from which values on it is which colour; below the first it is green, unless the
            first has no value.
        alerts: the names of alerts that watch the same.
    """

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    look: Look = Look.LINES
    width: int = 8
    height: int = 7
    limits: tuple[tuple[float | None, str], ...] = ()
    alerts: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that it reads, each once."""
        return tuple(dict.fromkeys(name for query in self.queries for name in query.metrics))

    @property
    def description(self) -> str:
        """What the metrics mean, in their own words."""
        helps = (f"`{name}`: {METRICS[name].help}" for name in self.metrics)
        return "\n\n".join(helps)


class PanelRow(NamedTuple):
    """Panels under one title.

    Attributes:
        title: of the row.
        panels: in order.
    """

    title: str
    panels: tuple[Panel, ...]


class Panels:
    """Makes panels of one metric each.

    Arguments:
        queries: makes their queries.
    """

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    def number(
        self,
        title: str,
        query: Query,
        unit: str = "short",
        limits: tuple[tuple[float | None, str], ...] = (),
        alerts: tuple[str, ...] = (),
    ) -> Panel:
        """One number, and its course behind it."""
        return Panel(title, (query,), unit, Look.NUMBER, 3, 4, limits, alerts)

    def rates(
        self,
        title: str,
        name: str,
        *by: str,
        unit: str = "eps",
        alerts: tuple[str, ...] = (),
        **only: str,
    ) -> Panel:
        """How much a counter grows a second."""
        return Panel(title, (self._queries.rate(name, *by, **only),), unit, alerts=alerts)

    def growth(self, title: str, name: str, *by: str, alerts: tuple[str, ...] = ()) -> Panel:
        """By how much a counter grows, for what is rare."""
        return Panel(title, (self._queries.increase(name, *by),), alerts=alerts)

    def gauges(
        self,
        title: str,
        name: str,
        *by: str,
        how: str = "sum",
        unit: str = "short",
        alerts: tuple[str, ...] = (),
    ) -> Panel:
        """A gauge as it is."""
        return Panel(title, (self._queries.value(name, *by, how=how),), unit, alerts=alerts)

    def ages(self, title: str, name: str, *by: str, alerts: tuple[str, ...] = ()) -> Panel:
        """How long ago a point of time was."""
        return Panel(title, (self._queries.ago(name, *by),), "s", alerts=alerts)

    def quantiles(self, title: str, name: str, *by: str, alerts: tuple[str, ...] = ()) -> Panel:
        """A histogram of seconds."""
        queries = tuple(self._queries.quantile(share, name, *by) for share in QUANTILES)
        return Panel(title, queries, "s", alerts=alerts)
