from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiopype import SyncProtocol
from aiopype.metrics import Metrics
from aiopype.metrics.definitions import METRICS
from aiopype.metrics.sources import SourceCollector
from aiopype.pipelines import Pipelines
from aiopype.testing.clock import FakeClock

NAMES = ("quotes.a", "quotes.deep.b")


@pytest.fixture
def pipelines(declare, numbers):
    """The pipelines of a manager `quotes` with two sources, of which the first runs here."""

    def wire(manager):
        for name in ("a", "deep.b"):
            numbers(manager.build_processor_name(name), manager.handler)

    declare(wire, name="quotes")
    made = Pipelines(["quotes"], SyncProtocol())
    made.protocol.progress.sources.add(NAMES[0])
    return made


@pytest.fixture
def source(pipelines):
    made = pipelines.sources[NAMES[0]]
    made.clock = FakeClock(1_000.0)
    return made


@pytest.fixture
def scrape(pipelines):
    """Scrapes all metrics; returns the families, and what samples say by name and last labels."""
    metrics = Metrics(SourceCollector("flow", pipelines.sources, pipelines.protocol.progress))

    def take():
        families = list(text_string_to_metric_families(metrics.text()[0].decode()))
        found = {}
        for family in families:
            for name, labels, value, *_ in family.samples:
                assert labels.pop("flow") == "flow"
                assert labels.pop("manager") == "quotes"
                found[name.removeprefix("aiopype_source_"), *sorted(labels.values())] = value
        return SimpleNamespace(families={family.name for family in families}, values=found)

    return take


def test_of_a_source_that_has_just_begun_only_counts_are_known(scrape, source):
    assert scrape().values == {
        ("outbox_events", "a"): 0,
        ("reconnects_total", "a"): 0,
        ("attempts_total", "a", "ok"): 0,
        ("attempts_total", "a", "failed"): 0,
    }


async def test_what_is_known_of_a_source_is_shown(scrape, source):
    source.expect_every = 30.0
    source.vitals.outbox = SimpleNamespace(epoch=4, written_at=990.5, count=17)
    source.heard()
    await source.clock.advance(12.0)
    for _ in range(3):
        source.vitals.connected()
    source.vitals.failed(OSError())
    source.vitals.failed(OSError())

    assert scrape().values == {
        ("last_event_timestamp_seconds", "a"): 990.5,
        ("last_heard_timestamp_seconds", "a"): 1_000.0,
        ("silence_limit_seconds", "a"): 30,
        ("epoch", "a"): 4,
        ("outbox_events", "a"): 17,
        ("reconnects_total", "a"): 2,
        ("attempts_total", "a", "ok"): 3,
        ("attempts_total", "a", "failed"): 1,
    }


def test_an_outbox_that_has_not_written_yet_shows_no_owner_and_no_time(scrape, source):
    source.vitals.outbox = SimpleNamespace(epoch=0, written_at=None, count=0)

    assert not {"epoch", "last_event_timestamp_seconds"} & {name for name, *_ in scrape().values}


def test_the_series_of_a_source_vanish_when_it_runs_elsewhere(scrape, source, pipelines):
    assert scrape().values

    pipelines.protocol.progress.sources.clear()

    assert scrape().values == {}


def test_all_are_in_the_table_of_metrics(scrape, source):
    source.expect_every = 30.0
    source.vitals.outbox = SimpleNamespace(epoch=4, written_at=990.5, count=17)
    source.heard()

    families = scrape().families

    others = {"aiopype_source_state", "aiopype_source_restarts_total"}
    table = {name for name in METRICS if name.startswith("aiopype_source_")} - others
    assert families == {name.removesuffix("_total") for name in table}
