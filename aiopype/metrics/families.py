"""Metrics as `definitions` names them, in the classes of prometheus-client."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from aiopype.distribution import Distribution
from aiopype.graph import manager_of
from aiopype.metrics.definitions import METRICS

__all__ = ["add", "counter", "gauge", "histogram", "parts"]


def counter(name: str) -> CounterMetricFamily:
    """Return a counter without samples, by its full name; raises KeyError for an unknown one."""
    metric = METRICS[name]
    return CounterMetricFamily(name, metric.help, labels=metric.labels)


def gauge(name: str) -> GaugeMetricFamily:
    """Return a gauge without samples; raises KeyError for a name that is not known."""
    metric = METRICS[name]
    return GaugeMetricFamily(name, metric.help, labels=metric.labels)


def histogram(name: str) -> HistogramMetricFamily:
    """Return a histogram without samples; raises KeyError for a name that is not known."""
    metric = METRICS[name]
    return HistogramMetricFamily(name, metric.help, labels=metric.labels)


def add(family: HistogramMetricFamily, labels: Sequence[str], values: Distribution) -> None:
    """Add to a histogram what these labels' values are."""
    bounds = [*map(floatToGoString, values.bounds), "+Inf"]
    family.add_metric(labels, list(zip(bounds, accumulate(values.counts), strict=True)), values.sum)


def parts(component: str) -> tuple[str, str]:
    """Split a component's full name into manager and the rest, as topics' names have them."""
    manager = manager_of(component)
    return manager, component.removeprefix(f"{manager}.")
