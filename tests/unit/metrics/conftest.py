import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiopype import SyncProtocol
from aiopype.metrics import Metrics
from aiopype.pipelines import Pipelines


@pytest.fixture
def pipelines(declare, numbers, collector):
    """The pipelines of a manager `quotes`: a source, its sink, and the sink's `error` event."""

    def wire(manager):
        named = manager.build_processor_name
        manager.source = numbers(named("source"), manager.handler)
        manager.sink = collector(named("sink"), manager.handler)
        manager.source.on("number", manager.sink.take)
        manager.handler.topic(named("sink"), "error")

    declare(wire, name="quotes")
    return Pipelines(["quotes"], SyncProtocol())


@pytest.fixture
def progress(pipelines):
    return pipelines.protocol.progress


@pytest.fixture
def graph(pipelines):
    return pipelines.protocol.graph


@pytest.fixture
def scraped():
    """What a scrape of some collectors gives: a function that finds samples by name and labels.

    It returns the values of those samples of a name, without `aiopype_`, that have these labels.
    """

    def scrape(*collectors):
        families = text_string_to_metric_families(Metrics(*collectors).text()[0].decode())
        samples = [sample for family in families for sample in family.samples]

        def find(name, **labels):
            return [
                sample.value
                for sample in samples
                if sample.name == f"aiopype_{name}" and labels.items() <= sample.labels.items()
            ]

        return find

    return scrape
