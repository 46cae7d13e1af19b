from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiopype import SyncProtocol
from aiopype.health import Health
from aiopype.hosting.measuring import metrics_of
from aiopype.metrics.definitions import METRICS, Kind
from aiopype.pipelines import Pipelines
from aiopype.transport.ledger import Ledger

#: Told by a command that runs several workers, of itself.
OF_THE_PARENT = {"aiopype_workers"}


@pytest.fixture
def pipelines(declare, numbers, collector):
    def wire(manager):
        named = manager.build_processor_name
        manager.source = numbers(named("source"), manager.handler)
        manager.sink = collector(named("sink"), manager.handler)
        manager.source.on("number", manager.sink.take)
        manager.handler.topic(named("sink"), "error")

    declare(wire, name="quotes")
    return Pipelines(["quotes"], SyncProtocol())


@pytest.fixture
def app(pipelines):
    """A worker whose groups were rebalanced, and of which something is known everywhere."""
    progress = pipelines.protocol.progress
    progress.sources.add("quotes.source")
    progress.errors.add("quotes.sink", LookupError())
    progress.dead_letters["quotes.sink"] = 2
    progress.assign("quotes.source.number", 1)
    progress.fetched("quotes.source.number", 1, position=2, end=9)
    health = Health("flow")
    health.add("group", lambda: None)
    return SimpleNamespace(
        health=health, partitions=[], rebalancing_count=2, owns=SimpleNamespace(rebalances=3)
    )


@pytest.fixture
def metrics(app, pipelines):
    return metrics_of("flow", app, pipelines, Ledger())


@pytest.fixture
def families(metrics):
    """The families of a scrape, by the name that their definition has."""
    found = list(text_string_to_metric_families(metrics.text()[0].decode()))
    named = {f"{f.name}_total" if f.type == "counter" else f.name: f for f in found}
    assert len(named) == len(found)
    return named


def test_what_is_scraped_is_what_is_defined_and_nothing_else(families):
    assert set(families) == set(METRICS) - OF_THE_PARENT


def test_each_has_the_type_and_help_that_are_defined(families):
    for name, family in families.items():
        # Prometheus' own text form knows no infos.
        kind = METRICS[name].kind if METRICS[name].kind is not Kind.INFO else Kind.GAUGE
        assert (name, family.type, family.documentation) == (name, kind, METRICS[name].help)


def test_each_sample_has_the_labels_that_are_defined(families):
    for name, family in families.items():
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(METRICS[name].labels), name


def test_histograms_are_whole(families):
    for name, family in families.items():
        if METRICS[name].kind is Kind.HISTOGRAM:
            kinds = {sample.name.removeprefix(name) for sample in family.samples}
            assert kinds == {"_bucket", "_count", "_sum"}, name


def test_the_form_that_openmetrics_has_is_one_as_well(metrics):
    body, content_type = metrics.text("application/openmetrics-text; version=1.0.0")

    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert b"# TYPE aiopype_build info" in body


def test_rebalances_are_those_of_both_groups(families):
    found = {s.labels["group"]: s.value for s in families["aiopype_rebalances_total"].samples}

    assert found == {"events": 2, "sources": 3}
