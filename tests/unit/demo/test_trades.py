"""The demo's live trades, part by part."""

import asyncio
from functools import partial

import pytest

from aiopype import Source, SyncProtocol
from aiopype.demo import trades
from aiopype.demo.exchange import Exchange
from aiopype.sources import Gap

GAP = Gap(1_000.0, 1_003.16, 500, "it broke off", filled=True, messages=318)


@pytest.fixture
def followed(monkeypatch, collector, tmp_path, session):
    """Runs the feed until the market closes; returns the events of each name, by name."""
    monkeypatch.setattr(trades, "read_trades", lambda: session)

    async def run(protocol=None, **options):
        protocol = protocol or SyncProtocol()
        monkeypatch.setattr(trades, "Exchange", partial(Exchange, **options))
        feed = trades.TradeFeed("trades.feed", protocol, tmp_path / "opened")
        events = {}
        for event in ("message", "disconnected", "gap"):
            sink = collector(f"trades.{event}", protocol)
            feed.on(event, sink.take)
            events[event] = sink.got
        async with asyncio.timeout(10):
            await feed.start()
        return events

    return run


@pytest.fixture
def log(collector):
    """Gives an event to the handlers of a FeedLog; returns the events that it emits."""

    def run(event, *args):
        protocol = SyncProtocol()
        source = Source("trades.feed", protocol)
        tested = trades.FeedLog("trades.feed_log", protocol)
        sink = collector("trades.sink", protocol)
        source.on("disconnected", tested.lost)
        source.on("gap", tested.back)
        tested.on("gap", sink.take)
        protocol.freeze()
        source.emit(event, *args)
        return sink.got

    return run


def numbers(events):
    return [trade["number"] for (trade,) in events["message"]]


async def test_every_trade_is_emitted_once_in_order_over_a_cut_of_the_line(followed):
    events = await followed(outage=range(20, 40))
    assert numbers(events) == list(range(1, 101))
    ((gap,),) = events["gap"]
    assert gap["filled"]
    assert gap["position"] == 20
    assert gap["messages"] >= 20
    assert len(events["disconnected"]) == 2


async def test_the_source_ends_when_the_market_closes(followed):
    events = await followed(interval_seconds=0.001, outage=range(0))
    assert events["disconnected"] == [("the other side closed it with 1000: the market is closed",)]
    assert events["gap"] == []


async def test_one_that_starts_again_asks_for_what_happened_meanwhile(followed):
    protocol = SyncProtocol()
    protocol.checkpoint("trades.feed", b'{"at": 1000.0, "position": 70}')
    await followed(interval_seconds=0.0001, outage=range(0))
    events = await followed(protocol, interval_seconds=0.0001, outage=range(0))
    assert numbers(events) == list(range(71, 101))
    ((gap,),) = events["gap"]
    assert (gap["position"], gap["messages"], gap["filled"]) == (70, 30, True)


def test_number_and_price_are_taken_from_a_trade(collector):
    protocol = SyncProtocol()
    source = Source("trades.feed", protocol)
    tape = trades.Tape("trades.tape", protocol)
    sink = collector("trades.sink", protocol)
    source.on("message", tape.handle)
    tape.on("trade", sink.take)
    protocol.freeze()
    source.emit("message", {"number": 7, "price": 130.31})
    assert sink.got == [(7, 130.31)]


def test_a_loss_is_told(log, capsys):
    assert log("disconnected", "no answer to a ping in 10 s") == []
    assert capsys.readouterr().out == "  feed   lost: no answer to a ping in 10 s\n"


def test_the_end_of_the_session_is_no_loss(log, capsys):
    log("disconnected", "the other side closed it with 1000: the market is closed")
    assert capsys.readouterr().out == ""


def test_a_gap_that_is_filled_is_told_and_emitted(log, capsys):
    assert log("gap", GAP) == [(500, 3.2, 318)]
    assert capsys.readouterr().out == (
        "  feed   back: a gap of 3.2 s after trade 500\n"
        "  feed   gap filled: 318 trades over REST, up to 818\n"
    )


def test_a_gap_that_is_not_filled_is_told_as_such(log, capsys):
    assert log("gap", Gap(1_000.0, 1_003.0)) == [(0, 3.0, 0)]
    assert "gap not filled: 0 trades" in capsys.readouterr().out
