"""Spans: one of a source's transaction, one of a batch; the only module that knows OpenTelemetry.

A batch has a span when an event of it is of a trace that is recorded: the span is in the trace of
the first of them, and has links to the others. What the handlers emit for those events is written
with the span's context, so their number does not grow on the way.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aiopype.event import TRACE_HEADERS, Emitted, Headers, Record, Stamp
from aiopype.tracing import REPLAY_OF

if TYPE_CHECKING:
    from aiopype.execution import Failure
    from aiopype.topics import Topic

__all__ = ["Trace", "Tracing", "flush", "provider_of"]

logger = logging.getLogger(__name__)

#: Most links of a span, and most failures that it tells of.
LINKS, FAILURES = 32, 8

#: For the spans of a run to reach the collector at its end.
FLUSH_SECONDS = 3.0

_ABOUT_TRACES = frozenset({*TRACE_HEADERS, REPLAY_OF})
_W3C = TraceContextTextMapPropagator()


class TracedRecord(NamedTuple):
    """A record of an event that is traced: its time has the headers of what comes of it."""

    offset: int
    timestamp: Stamp
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Trace:
    """The span of what is under way, until it ends.

    Attributes:
        headers: its context, as records have it.
    """

    __slots__ = ("_span", "headers")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(span))
        self.headers: Headers = [(name, value.encode()) for name, value in carrier.items()]

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(error)

    def stamp(self, events: Sequence[Emitted]) -> list[Emitted]:
        """Return events that are written with this context."""
        return [(*event[:3], Stamp(event[3], self.headers), event[4]) for event in events]

    def of(self, record: Record) -> TracedRecord:
        """Return a record whose outputs are written with this context."""
        return TracedRecord(
            record.offset,
            Stamp(record.timestamp, self.headers),
            record.key,
            record.value,
            getattr(record, "headers", ()),
        )

    async def around(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`; spans that a handler opens meanwhile belong to this one."""
        with self.current():
            await work

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Let spans that a handler opens belong to this one."""
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield

    def fail(self, failures: Sequence[Failure]) -> None:
        """Tell of events whose handlers failed: the first of them, by the class of the error."""
        for failure in failures[:FAILURES]:
            if failure.error is not None:
                self._span.add_event(
                    "failure",
                    {
                        "aiopype.subscription": failure.subscription.name,
                        "error.type": type(failure.error).__qualname__,
                        "messaging.kafka.offset": failure.record.offset,
                    },
                )

    def end(self, error: BaseException | None = None) -> None:
        """End the span; `error` is why nothing of it is durable. Ended again, nothing happens."""
        if self._span.is_recording():
            if error is not None:
                self._span.set_attribute("error.type", type(error).__qualname__)
                self._span.set_status(Status(StatusCode.ERROR, str(error)))
            self._span.end()


class Tracing:
    """Makes the spans of a flow.

    Arguments:
        provider: of OpenTelemetry; its sampler says which traces are recorded.
        group: the flow's consumer group.
    """

    def __init__(self, provider: trace.TracerProvider, group: str) -> None:
        self._tracer = provider.get_tracer("aiopype")
        self._group = group

    def of_source(self, component: str, count: int) -> Trace | None:
        """Begin the trace of what a source writes together; None if it is not recorded."""
        return self._begun(
            f"send {component}",
            SpanKind.PRODUCER,
            None,
            (),
            {
                "messaging.operation.name": "send",
                "messaging.operation.type": "send",
                "messaging.batch.message_count": count,
                "aiopype.component": component,
                "aiopype.manager": component.partition(".")[0],
            },
        )

    def of_batch(
        self, topic: Topic, partition: int | None, records: Sequence[Record]
    ) -> tuple[Trace, list[Record]] | None:
        """Go on with the traces of a batch's events; None if none of them is recorded.

        A batch of a foreign topic without such an event begins a trace, as a source does; so does
        a replay, with a link to the original.

        Returns:
            The span, and the records; what comes of those that are traced is traced.
        """
        known: dict[tuple[Any, ...], _Origin] = {}
        traced: list[int] = []
        for place, record in enumerate(records):
            headers = getattr(record, "headers", ())
            if headers and (key := tuple(h for h in headers if h[0] in _ABOUT_TRACES)):
                origin = known.get(key)
                if origin is None:
                    origin = known[key] = _Origin.of(key)
                if origin.context.is_valid and origin.context.trace_flags.sampled:
                    traced.append(place)
        origins = [
            o for o in known.values() if o.context.is_valid and o.context.trace_flags.sampled
        ]
        if not origins and topic.foreign is None:
            return None
        parent = next((o.context for o in origins if not o.is_replayed), None)
        links = [Link(o.context) for o in origins if o.context is not parent]
        begun = self._begun(
            f"process {topic.name}",
            SpanKind.CONSUMER,
            parent,
            links[:LINKS],
            self._of_batch(topic, partition, records),
        )
        if begun is None:
            return None
        stamped = list(records)
        for place in traced if origins else range(len(records)):
            stamped[place] = begun.of(records[place])
        return begun, stamped

    def _of_batch(
        self, topic: Topic, partition: int | None, records: Sequence[Record]
    ) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": topic.name,
            "messaging.batch.message_count": len(records),
            "aiopype.manager": topic.component.partition(".")[0],
        }
        if partition is not None:
            attributes |= {
                "messaging.system": "kafka",
                "messaging.consumer.group.name": self._group,
                "messaging.destination.partition.id": str(partition),
                "messaging.kafka.offset": records[0].offset,
            }
        return attributes

    def _begun(
        self,
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        links: Sequence[Link],
        attributes: Mapping[str, Any],
    ) -> Trace | None:
        context = Context()  # not what happens to be the current one
        if parent is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(parent), context)
        span = self._tracer.start_span(
            name, context=context, kind=kind, links=links, attributes=attributes
        )
        return Trace(span) if span.is_recording() else None


class _Origin(NamedTuple):
    """Where an event came from."""

    context: SpanContext
    is_replayed: bool

    @classmethod
    def of(cls, headers: Sequence[tuple[str, bytes | None]]) -> _Origin:
        carrier = {name: (value or b"").decode("ascii", "replace") for name, value in headers}
        is_replayed = REPLAY_OF in carrier
        if is_replayed:
            carrier["traceparent"] = carrier[REPLAY_OF]
        context = trace.get_current_span(_W3C.extract(carrier, Context())).get_span_context()
        return cls(context, is_replayed)


def provider_of(flow: str) -> trace.TracerProvider:
    """Return the program's own provider; without one make one, by OpenTelemetry's environment.

    Arguments:
        flow: its name, the service's if the environment has none.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, trace.ProxyTracerProvider):
        return provider
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - a program's own needs none
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    resource = Resource.create()
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": flow}))
    # Not at the exit: with a collector that does not answer that takes 30 s.
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "none":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(made)  # spans that handlers open are exported too
    return made


def flush(provider: trace.TracerProvider) -> None:
    """Wait until the spans that have ended are exported, 3 seconds at most."""
    force: Any = getattr(provider, "force_flush", None)
    if force is None:
        return
    # In a thread: its own timeout does nothing (opentelemetry-python issue 4568).
    thread = threading.Thread(target=force, name="export spans", daemon=True)
    thread.start()
    thread.join(FLUSH_SECONDS)
    if thread.is_alive():
        logger.warning("spans were not exported in %g s, and are given up", FLUSH_SECONDS)
