"""What reads, when Prometheus asks, what the worker knows anyway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from aiopype.graph import Graph, manager_of
from aiopype.progress import Progress, TopicProgress
from aiopype.states import State, Status
from aiopype.supervision import Supervisor
from aiopype.topics import ERROR, Topic

__all__ = ["EventCollector", "StateCollector"]


class StateCollector(Collector):
    """The states of managers and of the sources that run here.

    Arguments:
        flow: the flow's name.
        supervisor: knows the states.
        progress: knows which sources run here.
    """

    def __init__(self, flow: str, supervisor: Supervisor, progress: Progress) -> None:
        self._flow = flow
        self._supervisor = supervisor
        self._progress = progress

    def collect(self) -> Iterator[Metric]:
        """Read the states."""
        managers = self._supervisor.managers
        sources = {
            name: status
            for name, status in self._supervisor.sources.items()
            if name in self._progress.sources
        }
        yield from self._of("manager", ["manager"], managers)
        yield from self._of("source", ["manager", "component"], sources)

    def _of(self, kind: str, labels: list[str], statuses: Mapping[str, Status]) -> Iterable[Metric]:
        state = GaugeMetricFamily(
            f"aiopype_{kind}_state",
            f"1 for the state that a {kind} is in, 0 for the others.",
            labels=["flow", *labels, "state"],
        )
        restarts = CounterMetricFamily(
            f"aiopype_{kind}_restarts",
            f"How often a {kind} was started again after a failure.",
            labels=["flow", *labels],
        )
        counts = self._supervisor.restarts
        for name, status in statuses.items():
            of = [self._flow, *(_parts(name) if len(labels) > 1 else [name])]
            restarts.add_metric(of, counts[name])
            for each in State:
                state.add_metric([*of, str(each)], float(status.state is each))
        return state, restarts


class EventCollector(Collector):
    """What became of the events, and how far the partitions of this worker are behind.

    Arguments:
        flow: the flow's name.
        graph: knows the events.
        progress: counts them.
    """

    def __init__(self, flow: str, graph: Graph, progress: Progress) -> None:
        self._flow = flow
        self._graph = graph
        self._progress = progress

    def collect(self) -> Iterator[Metric]:
        """Read the counts."""
        labels = ["flow", "manager", "component", "event"]
        events = CounterMetricFamily(
            "aiopype_events",
            "Events of this worker, by what became of them: emitted and written; handled by all "
            "subscriptions, again after a crash; written as a dead letter of the component; or "
            "skipped, being deleted before they were handled.",
            labels=[*labels, "outcome"],
        )
        lag = GaugeMetricFamily(
            "aiopype_lag_records",
            "Offsets between what is handled and the end of the log, of a partition owned here.",
            labels=[*labels, "partition"],
        )
        for topic in self._graph.topics():
            figures = self._progress.topics.get(topic.name, TopicProgress())
            of = [self._flow, *_parts(topic.component), topic.event]
            events.add_metric([*of, "handled"], figures.handled)
            events.add_metric([*of, "skipped"], figures.skipped)
            events.add_metric([*of, _outcome(topic)], figures.emitted)
            for number, partition in sorted(figures.partitions.items()):
                if partition.lag is not None:
                    lag.add_metric([*of, str(number)], partition.lag)
        yield events
        yield lag


def _outcome(topic: Topic) -> str:
    return "dead_letter" if topic.event == ERROR else "emitted"


def _parts(component: str) -> tuple[str, str]:
    """Split a component's full name into manager and the rest, as topics' names have them."""
    manager = manager_of(component)
    return manager, component.removeprefix(f"{manager}.")
