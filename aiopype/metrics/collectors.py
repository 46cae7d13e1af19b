"""What reads, when Prometheus asks, what the worker knows of managers and events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from aiopype.graph import Graph
from aiopype.metrics.families import add, counter, gauge, histogram, parts
from aiopype.progress import Progress, TopicProgress
from aiopype.states import State, Status
from aiopype.supervision import Supervisor
from aiopype.topics import ERROR, Topic

__all__ = ["EventCollector", "StateCollector", "SubscriptionCollector"]


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
        sources = {
            name: status
            for name, status in self._supervisor.sources.items()
            if name in self._progress.sources
        }
        yield from self._of("manager", self._supervisor.managers)
        yield from self._of("source", sources)

    def _of(self, kind: str, statuses: Mapping[str, Status]) -> Iterable[Metric]:
        state = gauge(f"aiopype_{kind}_state")
        restarts = counter(f"aiopype_{kind}_restarts_total")
        counts = self._supervisor.restarts
        for name, status in statuses.items():
            of = [self._flow, *(parts(name) if kind == "source" else [name])]
            restarts.add_metric(of, counts[name])
            for each in State:
                state.add_metric([*of, str(each)], float(status.state is each))
        return state, restarts


class EventCollector(Collector):
    """What became of the events of each topic.

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
        events = counter("aiopype_events_total")
        ages = histogram("aiopype_event_age_seconds")
        sizes = histogram("aiopype_batch_events")
        times = histogram("aiopype_batch_seconds")
        for topic in self._graph.topics():
            figures = self._progress.topics.get(topic.name, TopicProgress())
            of = [self._flow, *parts(topic.component), topic.event]
            events.add_metric([*of, "handled"], figures.handled)
            events.add_metric([*of, "skipped"], figures.skipped)
            events.add_metric([*of, _outcome(topic)], figures.emitted)
            if self._graph.subscriptions(topic):
                add(ages, of, figures.ages)
                add(sizes, of, figures.batch_events)
                add(times, of, figures.batch_seconds)
        yield from (events, ages, sizes, times)


class SubscriptionCollector(Collector):
    """What became of events in each handler, errors by class, and how many dead letters there are.

    Arguments:
        flow: the flow's name.
        graph: knows the subscriptions.
        progress: counts what they do.
    """

    def __init__(self, flow: str, graph: Graph, progress: Progress) -> None:
        self._flow = flow
        self._graph = graph
        self._progress = progress

    def collect(self) -> Iterator[Metric]:
        """Read the counts."""
        events = counter("aiopype_subscription_events_total")
        retries = counter("aiopype_retries_total")
        times = histogram("aiopype_handling_seconds")
        # Two of one name, a handler that is subscribed twice, are counted together.
        named = {s.name: s for _, found in self._graph.subscribed() for s in found}
        for name, subscription in named.items():
            figures = self._progress.subscriptions[name]
            of = [self._flow, *parts(subscription.component), name]
            events.add_metric([*of, "ok"], figures.ok)
            events.add_metric([*of, "failed"], figures.failed)
            events.add_metric([*of, "parked"], figures.parked)
            events.add_metric([*of, "dead_letter"], figures.dead_letters)
            retries.add_metric(of, figures.retries)
            add(times, of, figures.seconds)
        yield from (events, retries, times, self._errors(), self._dead_letters())

    def _errors(self) -> Metric:
        errors = counter("aiopype_errors_total")
        for component, counts in self._progress.errors.by_component.items():
            for error, count in counts.items():
                errors.add_metric([self._flow, *parts(component), error], count)
        return errors

    def _dead_letters(self) -> Metric:
        stored = gauge("aiopype_dead_letters_stored")
        for component, count in self._progress.dead_letters.items():
            stored.add_metric([self._flow, *parts(component)], count)
        return stored


def _outcome(topic: Topic) -> str:
    return "dead_letter" if topic.event == ERROR else "emitted"
