"""Traces through Kafka: from a source through two handlers, in the headers of the records."""

from __future__ import annotations

import uuid
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from aiopype import Manager, Processor, Retry, Source
from aiopype.clock import SystemClock
from aiopype.testing import run_managers
from aiopype.tracing.spans import Tracing

pytestmark = pytest.mark.kafka


class Numbers(Source):
    async def start(self) -> None:
        async with self.transaction():
            for n in range(3):
                self.emit("number", n, key="k")


class Steps(Processor):
    retry = Retry(tries=1)

    def double(self, n: int) -> None:
        self.emit("double", 2 * n)

    def fail(self, n: int) -> None:
        raise LookupError("no")

    def note(self, letter: dict[str, Any]) -> None:
        self.emit("noted")


def manager_of(kind: str, exporter: InMemorySpanExporter, sampler: Sampler) -> type[Manager]:
    class Line(Manager):
        name = f"m{uuid.uuid4().hex[:10]}"
        guarantee = kind

        def __init__(self, handler: Any) -> None:
            super().__init__(handler)
            provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            handler.tracing = Tracing(provider, "flow")
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.first = Steps(self.build_processor_name("first"), handler)
            self.last = Steps(self.build_processor_name("last"), handler)
            self.source.on("number", self.first.double)
            self.first.on("double", self.last.fail)
            self.last.on("error", self.last.note)

    return Line


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
async def test_one_trace_goes_from_the_source_to_the_last_handler(
    guarantee: str, kafka: str, exporter: InMemorySpanExporter, read_topic: Any
) -> None:
    line = manager_of(guarantee, exporter, ALWAYS_ON)
    name = str(line.name)

    async with run_managers(line, broker=kafka, clock=SystemClock(), namespace="") as run:
        run.start_sources()
        await run.until(lambda: len(run.events(f"{name}.last.noted")) == 3)

    spans: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        spans.setdefault(span.name, []).append(span)
    way = [
        f"send {name}.source",
        f"process {name}.source.number",
        f"process {name}.first.double",
        f"process {name}.last.error",
    ]
    assert set(way) == spans.keys()
    assert len({span.context.trace_id for span in exporter.get_finished_spans()}) == 1
    for before, after in pairwise(way):
        parents = {span.context.span_id for span in spans[before]}
        assert all(span.parent and span.parent.span_id in parents for span in spans[after])
    assert [event.name for span in spans[way[2]] for event in span.events] == ["failure"] * 3
    for topic in ("source.number", "first.double", "last.error", "last.noted"):
        for record in await read_topic(f"{name}.{topic}"):
            assert [header for header, _ in record.headers] == ["traceparent"]


async def test_what_is_not_sampled_has_no_headers(
    kafka: str, exporter: InMemorySpanExporter, read_topic: Any
) -> None:
    line = manager_of("exactly_once", exporter, ALWAYS_OFF)
    name = str(line.name)

    async with run_managers(line, broker=kafka, clock=SystemClock(), namespace="") as run:
        run.start_sources()
        await run.until(lambda: len(run.events(f"{name}.last.noted")) == 3)

    assert exporter.get_finished_spans() == ()
    for topic in ("source.number", "first.double", "last.error", "last.noted"):
        assert not any(record.headers for record in await read_topic(f"{name}.{topic}"))
