"""What reads, when Prometheus asks, how the worker and its process are."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Collection, Iterator
from importlib.metadata import version
from typing import Protocol

from prometheus_client import ProcessCollector
from prometheus_client.core import InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from aiopype.metrics.definitions import METRICS
from aiopype.metrics.families import add, gauge, histogram
from aiopype.progress import Progress

__all__ = ["Checks", "ProcessFigures", "WorkerCollector"]

#: The distributions whose versions are told, by label.
_DISTRIBUTIONS = {"version": "aiopype", "faust": "faust-streaming", "aiokafka": "aiokafka"}


class Checks(Protocol):
    """What is asked of the worker's health."""

    @property
    def checks(self) -> Collection[str]:
        """The names of all checks."""

    def problems(self) -> Collection[str]:
        """Ask every check; return the names of those that are not ready."""


class WorkerCollector(Collector):
    """Which versions run, since when, whether the worker is ready, how late its event loop is.

    Arguments:
        flow: the flow's name.
        health: knows what is not ready.
        progress: knows the event loop's delays.
        clock: seconds since 1970.
    """

    def __init__(
        self, flow: str, health: Checks, progress: Progress, clock: Callable[[], float] = time.time
    ) -> None:
        self._flow = flow
        self._health = health
        self._progress = progress
        self._began = clock()
        self._versions = {label: version(name) for label, name in _DISTRIBUTIONS.items()}

    def collect(self) -> Iterator[Metric]:
        """Ask the checks, and read the rest."""
        problems = self._health.problems()
        ready, problem = gauge("aiopype_worker_ready"), gauge("aiopype_worker_problem")
        ready.add_metric([self._flow], float(not problems))
        for check in self._health.checks:
            problem.add_metric([self._flow, check], float(check in problems))
        start = gauge("aiopype_worker_start_timestamp_seconds")
        start.add_metric([self._flow], self._began)
        delay = histogram("aiopype_event_loop_delay_seconds")
        add(delay, [self._flow], self._progress.loop_delay)
        yield from (self._build(), ready, problem, start, delay)

    def _build(self) -> Metric:
        metric = METRICS["aiopype_build_info"]
        family = InfoMetricFamily(metric.name.removesuffix("_info"), metric.help, labels=["flow"])
        family.add_metric([self._flow], {**self._versions, "python": platform.python_version()})
        return family


class ProcessFigures(Collector):
    """What the operating system knows of this process; nothing where it has no `/proc`."""

    def __init__(self) -> None:
        self._figures = ProcessCollector(namespace="aiopype", registry=None)

    def collect(self) -> Iterator[Metric]:
        """Ask the operating system."""
        for family in self._figures.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            if name in METRICS:
                family.documentation = METRICS[name].help
                yield family
