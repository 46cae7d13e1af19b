import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiopype import SyncProtocol
from aiopype.metrics import EventCollector, Metrics, StateCollector
from aiopype.pipelines import Pipelines
from aiopype.restarts import RestartPolicy


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
def scrape(pipelines):
    """Scrapes all metrics; returns each sample's value by name and labels but `flow`."""
    protocol = pipelines.protocol
    metrics = Metrics(
        StateCollector("flow", pipelines.supervisor, protocol.progress),
        EventCollector("flow", protocol.graph, protocol.progress),
    )

    def take():
        found = {}
        for family in text_string_to_metric_families(metrics.text()[0].decode()):
            for name, labels, value, *_ in family.samples:
                assert labels.pop("flow") == "flow"
                found[name, *labels.values()] = value
        return found

    return take


def states(samples, *of):
    found = {key[-1]: value for key, value in samples.items() if key[:-1] == of}
    assert set(found) == {"running", "restarting", "quarantined", "ended"}
    return [state for state, value in found.items() if value]


async def test_a_manager_is_in_one_state(pipelines, scrape):
    assert states(scrape(), "aiopype_manager_state", "quotes") == ["running"]

    pipelines.supervisor.fail("quotes", LookupError(), "what")

    assert states(scrape(), "aiopype_manager_state", "quotes") == ["restarting"]
    pipelines.supervisor.stop()


async def test_restarts_are_counted(pipelines, scrape, until):
    key = ("aiopype_source_restarts_total", "source", "quotes")
    pipelines.protocol.progress.sources.add("quotes.source")
    pipelines.supervisor.add("quotes.source", RestartPolicy(first_delay_seconds=0))
    assert scrape()[key] == 0

    pipelines.supervisor.fail("quotes.source", LookupError(), "what")
    await until(lambda: pipelines.supervisor.is_running("quotes.source"))

    assert scrape()[key] == 1
    assert scrape()["aiopype_manager_restarts_total", "quotes"] == 0


def test_only_sources_that_run_here_have_a_state(pipelines, scrape):
    pipelines.supervisor.add("quotes.source", RestartPolicy())
    assert not [key for key in scrape() if key[0] == "aiopype_source_state"]

    pipelines.protocol.progress.sources.add("quotes.source")

    assert states(scrape(), "aiopype_source_state", "source", "quotes") == ["running"]


def test_events_are_counted_by_what_became_of_them(pipelines, scrape):
    progress = pipelines.protocol.progress
    progress.emitted("quotes.source.number", 9)
    progress.handled("quotes.source.number", 0, 6, last_timestamp_ms=0, position=6)
    progress.emitted("quotes.sink.error", 2)

    samples = {k: v for k, v in scrape().items() if k[0] == "aiopype_events_total"}

    assert samples["aiopype_events_total", "source", "number", "quotes", "emitted"] == 9
    assert samples["aiopype_events_total", "source", "number", "quotes", "handled"] == 6
    assert samples["aiopype_events_total", "sink", "error", "quotes", "dead_letter"] == 2


def test_lag_is_that_of_each_partition_whose_lag_is_known(pipelines, scrape):
    progress = pipelines.protocol.progress
    progress.assign("quotes.source.number", 0)
    progress.assign("quotes.source.number", 1)
    progress.fetched("quotes.source.number", 1, position=2, end=9)

    lags = {key: value for key, value in scrape().items() if key[0] == "aiopype_lag_records"}

    assert lags == {("aiopype_lag_records", "source", "number", "quotes", "1"): 7}


def test_an_event_that_never_came_is_counted_as_none(scrape):
    assert scrape()["aiopype_events_total", "source", "number", "quotes", "handled"] == 0


def test_the_form_is_the_one_that_the_client_accepts():
    metrics = Metrics()

    assert metrics.text()[1].startswith("text/plain")
    assert metrics.text("application/openmetrics-text; version=1.0.0")[1].startswith(
        "application/openmetrics-text"
    )


def test_two_workers_of_one_process_have_metrics_of_their_own(pipelines):
    collectors = [
        StateCollector("flow", pipelines.supervisor, pipelines.protocol.progress) for _ in range(2)
    ]

    assert Metrics(collectors[0]).text() == Metrics(collectors[1]).text()
    assert b"aiopype_" not in prometheus_client.generate_latest()
