from types import SimpleNamespace

import pytest

from aiopype.metrics import PartitionCollector

TOPIC = "quotes.source.number"
OF = {"manager": "quotes", "component": "source", "event": "number"}


@pytest.fixture
def owned():
    """The partitions of this worker."""
    return []


@pytest.fixture
def own(graph, owned):
    """Makes a partition of this worker's: since when a batch is in work, how many events wait."""
    topic, subscriptions = next(iter(graph.subscribed()))

    def make(busy_since, parked=0):
        waiting = [(subscription, parked) for subscription in subscriptions]
        owned.append(SimpleNamespace(topic=topic, busy_since=busy_since, parked=waiting))

    return make


@pytest.fixture
def scrape(graph, progress, owned, scraped):
    """Scrapes what is known of partitions, 1,000 s after 1970 and 50 s after the boot."""
    return lambda: scraped(
        PartitionCollector("flow", graph, progress, lambda: owned, lambda: 1_000.0, lambda: 50.0)
    )


def test_lag_is_that_of_each_partition_whose_lag_is_known(progress, scrape):
    for partition in range(2):
        progress.assign(TOPIC, partition)
    progress.fetched(TOPIC, 1, position=2, end=9)
    progress.waits(TOPIC, 1, 990_000)

    found = scrape()

    assert found("lag_records") == found("lag_records", partition="1", **OF) == [7]
    assert found("lag_seconds") == found("lag_seconds", partition="1", **OF) == [10]
    assert found("assigned_partitions", **OF) == [2]


def test_the_series_of_a_partition_vanish_with_it(progress, scrape):
    progress.assign(TOPIC, 1)
    progress.fetched(TOPIC, 1, position=2, end=9)
    assert scrape()("lag_records") == [7]

    progress.revoke()

    assert scrape()("lag_records") == scrape()("lag_seconds") == []
    assert scrape()("assigned_partitions", **OF) == [0]


def test_without_a_batch_in_work_its_age_is_none(own, scrape):
    assert scrape()("batch_age_seconds", **OF) == [0]

    own(busy_since=None)

    assert scrape()("batch_age_seconds", **OF) == [0]


def test_of_all_batches_in_work_the_oldest_counts(own, scrape):
    for since in (49.0, 30.0, None, 45.0):
        own(since)

    assert scrape()("batch_age_seconds", **OF) == [20]


def test_events_that_wait_are_those_of_all_partitions(own, scrape):
    name = "quotes.source.number -> quotes.sink.take"
    assert scrape()("parked_events") == [0]

    own(None, parked=3)
    own(None, parked=4)

    assert scrape()("parked_events", component="sink", subscription=name) == [7]
