import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiopype.metrics import EventCollector, Metrics, StateCollector, SubscriptionCollector
from aiopype.restarts import RestartPolicy


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


def test_only_events_that_are_handled_here_have_an_age_and_batches(
    pipelines, progress, scraped, record
):
    progress.spread("quotes.source.number", [record(timestamp=0)], 0.5)

    found = scraped(EventCollector("flow", pipelines.protocol.graph, progress))

    assert found("batch_seconds_sum", component="source", event="number") == [0.5]
    assert found("batch_seconds_count") == [1]
    assert found("batch_events_count") == [1]
    assert found("event_age_seconds_count") == [1]


# --- handlers


@pytest.fixture
def handlers(graph, progress, scraped):
    """Scrapes what is known of handlers."""
    return lambda: scraped(SubscriptionCollector("flow", graph, progress))


def test_what_handlers_did_is_told_from_the_start_on(handlers):
    of = {
        "flow": "flow",
        "manager": "quotes",
        "component": "sink",
        "subscription": "quotes.source.number -> quotes.sink.take",
    }
    found = handlers()

    for outcome in ("ok", "failed", "parked", "dead_letter"):
        assert found("subscription_events_total", outcome=outcome, **of) == [0]
    assert found("retries_total", **of) == [0]
    assert found("handling_seconds_count", **of) == [0]


def test_what_handlers_did_is_told_by_subscription(graph, progress, handlers):
    (subscription,) = [s for _, each in graph.subscribed() for s in each]
    figures = progress.subscriptions[subscription.name]
    figures.ok, figures.failed, figures.parked, figures.dead_letters, figures.retries = range(1, 6)
    figures.add_times(3, 0.3, [])

    found = handlers()

    for outcome, count in [("ok", 1), ("failed", 2), ("parked", 3), ("dead_letter", 4)]:
        assert found("subscription_events_total", outcome=outcome) == [count]
    assert found("retries_total") == [5]
    assert found("handling_seconds_bucket", le="0.05") == [0]
    assert found("handling_seconds_bucket", le="0.1") == [3]
    assert found("handling_seconds_bucket", le="+Inf") == [3]
    assert found("handling_seconds_sum") == [pytest.approx(0.3)]


def test_a_handler_that_is_subscribed_twice_is_told_of_once(pipelines, graph, handlers):
    (topic, (subscription,)) = next(iter(graph.subscribed()))
    graph._subscriptions[topic] = [subscription, subscription]

    assert len(handlers()("retries_total")) == 1


def test_errors_are_told_by_component_and_class(progress, handlers):
    progress.errors.add("quotes.sink", KeyError())
    progress.errors.add("quotes.source", OSError())
    progress.errors.add("quotes.source", OSError())

    found = handlers()

    assert found("errors_total", manager="quotes", component="sink", error="KeyError") == [1]
    assert found("errors_total", manager="quotes", component="source", error="OSError") == [2]


def test_of_dead_letters_is_told_what_a_broker_said(progress, handlers):
    assert handlers()("dead_letters_stored") == []

    progress.dead_letters["quotes.sink"] = 7

    assert handlers()("dead_letters_stored", manager="quotes", component="sink") == [7]
