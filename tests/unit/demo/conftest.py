"""What the demo's unit tests share; none needs Kafka."""

from functools import partial

import pytest

from aiopype.demo import flow, outputs, quotes, trades
from aiopype.demo.days import Day
from aiopype.demo.exchange import Exchange, Trade

# Two quiet days and two busy ones, the last of them with a price that has three decimals.
DAYS = [
    Day("2008-01-18", "161.36", "49999999"),
    Day("2008-01-22", "155.64", "86965700"),
    Day("2008-01-23", "139.072", "120463200"),
    Day("2008-01-24", "135.6", "50000000"),
]

FILES = {
    "PRICE_FILE": "aapl.csv",
    "BUSY_FILE": "busy.csv",
    "TRADE_FILE": "trades.csv",
    "GAP_FILE": "gaps.csv",
    "OPENED_FILE": "opened",
}


@pytest.fixture
def days() -> list[Day]:
    return list(DAYS)


@pytest.fixture
def session() -> list[Trade]:
    """A hundred trades."""
    return [Trade(number, 20.0 + number / 4) for number in range(1, 101)]


@pytest.fixture
def exchange(tmp_path, session):
    """Makes an exchange with a hundred trades in a second, where no line is cut if not asked."""

    def make(**options):
        return Exchange(session, tmp_path / "opened", **({"outage": range(0)} | options))

    return make


@pytest.fixture
def small(monkeypatch, tmp_path, days, session):
    """The demo with four days, a hundred trades and files of its own; returns its outputs."""
    monkeypatch.setattr(quotes, "read_days", lambda: days)
    monkeypatch.setattr(trades, "read_trades", lambda: session)
    monkeypatch.setattr(trades, "Exchange", partial(Exchange, outage=range(20, 40)))
    for name, file in FILES.items():
        monkeypatch.setattr(flow, name, tmp_path / file)
        monkeypatch.setattr(outputs, name, tmp_path / file, raising=False)
    return outputs.outputs_of(days, session)
