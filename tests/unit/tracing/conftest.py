"""Spans in memory, of a tracing that is nobody else's."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

from aiopype.tracing.spans import Tracing


class Spans:
    """The spans that have ended.

    Attributes:
        tracing: makes them.
    """

    def __init__(self, sampler):
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider, "flow")

    @property
    def all(self):
        return self._exporter.get_finished_spans()

    @property
    def names(self):
        return [span.name for span in self.all]

    def one(self, name):
        (found,) = [span for span in self.all if span.name == name]
        return found


@pytest.fixture
def spans_of():
    """Spans of a sampler."""
    return Spans


@pytest.fixture
def spans():
    """Spans of which every one is recorded."""
    return Spans(ParentBased(ALWAYS_ON))
