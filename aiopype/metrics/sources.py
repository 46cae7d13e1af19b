"""What Prometheus sees of the sources that this worker runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from aiopype.metrics.families import counter, gauge, parts
from aiopype.progress import Progress
from aiopype.source import Source

__all__ = ["SourceCollector"]


class SourceCollector(Collector):
    """The figures of the sources that run here; others have no series.

    Nor has what is not known: when something was last written of a source that never had anything.

    Arguments:
        flow: the flow's name.
        sources: those of the program, by full name.
        progress: knows which of them run here.
    """

    def __init__(self, flow: str, sources: Mapping[str, Source], progress: Progress) -> None:
        self._flow = flow
        self._sources = sources
        self._progress = progress

    def collect(self) -> Iterator[Metric]:
        """Read the figures."""
        names = sorted(self._progress.sources & self._sources.keys())
        here = [([self._flow, *parts(name)], self._sources[name]) for name in names]
        for name, read in _GAUGES.items():
            family = gauge(name)
            for labels, source in here:
                if (value := read(source)) is not None:
                    family.add_metric(labels, value)
            yield family
        reconnects = counter("aiopype_source_reconnects_total")
        attempts = counter("aiopype_source_attempts_total")
        for labels, source in here:
            vitals = source.vitals
            reconnects.add_metric(labels, vitals.reconnects)
            attempts.add_metric([*labels, "ok"], vitals.ok)
            attempts.add_metric([*labels, "failed"], vitals.failures)
        yield reconnects
        yield attempts


def _last_event(source: Source) -> float | None:
    outbox = source.vitals.outbox
    return None if outbox is None else outbox.written_at


def _last_heard(source: Source) -> float | None:
    if source.heard_at is None:
        return None
    ago = source.clock.monotonic() - source.heard_at
    return round(source.clock.time() - ago, 3)


def _silence_limit(source: Source) -> float | None:
    return source.expect_every


def _epoch(source: Source) -> float | None:
    outbox = source.vitals.outbox
    return None if outbox is None else outbox.epoch or None


def _waiting(source: Source) -> float:
    outbox = source.vitals.outbox
    return 0 if outbox is None else outbox.count


_GAUGES: dict[str, Callable[[Source], float | None]] = {
    "aiopype_source_last_event_timestamp_seconds": _last_event,
    "aiopype_source_last_heard_timestamp_seconds": _last_heard,
    "aiopype_source_silence_limit_seconds": _silence_limit,
    "aiopype_source_epoch": _epoch,
    "aiopype_source_outbox_events": _waiting,
}
