"""The demo's daily prices, part by part."""

import pytest

from aiopype import Source, SyncProtocol
from aiopype.demo import quotes
from aiopype.demo.quote_server import quote


@pytest.fixture
def emitted(collector):
    """Gives quotes of days to a processor's handle; returns the events that it emits."""

    def run(processor, event, days):
        protocol = SyncProtocol()
        source = Source("aapl.source", protocol)
        tested = processor("aapl.tested", protocol)
        sink = collector("aapl.sink", protocol)
        source.on("data", tested.handle)
        tested.on(event, sink.take)
        protocol.freeze()
        for day in days:
            source.emit("data", quote(day), "2026-01-01T00:00:00+00:00")
        return sink.got

    return run


@pytest.fixture
def polled(monkeypatch, collector, days):
    """Runs the source on a protocol until the market closes; returns the days that it emits."""
    monkeypatch.setattr(quotes, "read_days", lambda: days)

    async def run(protocol):
        source = quotes.QuoteSource("aapl.source", protocol, "AAPL")
        sink = collector("aapl.sink", protocol)
        source.on("data", sink.take)
        await source.start()
        found = [data["list"]["resources"][0]["resource"]["fields"] for data, _ in sink.got]
        return [fields["utctime"][:10] for fields in found]

    return run


def test_a_price_is_emitted_for_each_quote(emitted, days):
    assert emitted(quotes.Prices, "price", days) == [
        ("2008-01-18", 161.36),
        ("2008-01-22", 155.64),
        ("2008-01-23", 139.072),
        ("2008-01-24", 135.6),
    ]


def test_a_day_is_busy_above_fifty_million_shares_and_not_at_them(emitted, days):
    assert emitted(quotes.BusyDays, "busy", days) == [
        ("2008-01-22", 86965700),
        ("2008-01-23", 120463200),
    ]


async def test_every_day_is_polled_once_until_the_market_closes(polled, days):
    assert await polled(SyncProtocol()) == [day.date for day in days]


async def test_a_source_that_starts_again_asks_for_what_it_does_not_have(polled, days):
    protocol = SyncProtocol()
    after_two = days.copy()
    del days[2:]
    assert len(await polled(protocol)) == 2
    position = protocol.position("aapl.source")
    days[:] = after_two

    protocol = SyncProtocol()
    protocol.checkpoint("aapl.source", position)
    assert await polled(protocol) == [day.date for day in after_two[2:]]


async def test_an_error_that_is_not_the_closed_market_is_logged_and_not_the_end(caplog):
    source = quotes.QuoteSource("aapl.source", SyncProtocol(), "AAPL")
    await source.error_handler(TimeoutError("no answer"))
    assert "TimeoutError: no answer" in caplog.text
