from types import SimpleNamespace

import pytest

from aiopype.metrics import BrokerCollector


@pytest.fixture
def ledger():
    return SimpleNamespace(committed=0, failed=0)


@pytest.fixture
def rebalances():
    return {"events": 0, "sources": 0}


@pytest.fixture
def scrape(progress, ledger, rebalances, scraped):
    return lambda: scraped(BrokerCollector("flow", progress, ledger, lambda: rebalances))


def test_all_outcomes_are_told_from_the_start_on(scrape):
    found = scrape()

    for of in ("events", "source"):
        for outcome in ("committed", "aborted", "fenced"):
            assert found("transactions_total", of=of, outcome=outcome) == [0]
        assert found("delivery_seconds_count", of=of) == [0]
        assert found("delivery_seconds_sum", of=of) == [0]
    for outcome in ("ok", "failed"):
        assert found("commits_total", outcome=outcome) == [0]
    for group in ("events", "sources"):
        assert found("rebalances_total", group=group) == [0]


def test_what_is_counted_is_told_by_what_it_is_of(progress, ledger, rebalances, scrape):
    figures = progress.deliveries["source"]
    figures.committed, figures.aborted, figures.fenced = 1, 2, 3
    figures.seconds.add(0.02)
    ledger.committed, ledger.failed = 4, 5
    rebalances |= {"events": 6, "sources": 7}

    found = scrape()

    assert found("transactions_total", of="source") == [1, 2, 3]
    assert found("transactions_total", of="events") == [0, 0, 0]
    assert found("delivery_seconds_bucket", of="source", le="0.01") == [0]
    assert found("delivery_seconds_bucket", of="source", le="0.025") == [1]
    assert found("commits_total", outcome="ok") == [4]
    assert found("commits_total", outcome="failed") == [5]
    assert found("rebalances_total", group="events") == [6]
    assert found("rebalances_total", group="sources") == [7]
