"""Which trades have happened, as time goes on."""

import os
import time

import pytest

from aiopype.demo import exchange as module
from aiopype.demo.exchange import Trade, read_trades


@pytest.fixture
def at(monkeypatch, tmp_path):
    """Sets the time, in seconds after the exchange has opened."""
    opened = time.time() - 86_400

    def set_to(seconds):
        os.utime(tmp_path / "opened", (opened, opened))
        monkeypatch.setattr(module.time, "time", lambda: opened + seconds)

    return set_to


def test_the_session_has_1_400_numbered_trades_with_the_first_prices_of_the_data():
    trades = read_trades()
    assert [trade.number for trade in trades] == list(range(1, 1401))
    assert trades[:2] == [Trade(1, 130.31), Trade(2, 122.0)]


def test_nothing_happens_before_it_is_opened(exchange):
    closed = exchange()
    assert closed.happened == 0
    assert closed.after(0) == []
    assert not exchange(outage=range(20, 40)).is_cut_off


def test_a_hundred_trades_happen_in_a_second(exchange, at, session):
    open_ = exchange()
    open_.open()
    at(0.0)
    assert open_.happened == 0
    at(0.555)
    assert open_.happened == 55
    assert open_.after(50) == session[50:55]
    assert open_.after(55) == []


def test_nothing_happens_after_the_last_trade(exchange, at, session):
    open_ = exchange()
    open_.open()
    at(3600)
    assert open_.happened == 100
    assert open_.after(98) == session[98:]


def test_the_line_is_cut_while_the_trades_of_the_outage_happen(exchange, at):
    open_ = exchange(outage=range(20, 40))
    open_.open()
    cut = []
    for hundredths in (19.5, 20.5, 39.5, 40.5):
        at(hundredths / 100)
        cut.append(open_.is_cut_off)
    assert cut == [False, True, True, False]


def test_another_one_that_opens_later_goes_on_where_the_first_one_is(exchange, at):
    exchange().open()
    at(0.305)
    later = exchange()
    later.open()
    assert later.happened == 30


def test_a_clock_that_is_behind_makes_no_trades(exchange, at):
    open_ = exchange()
    open_.open()
    at(-5.0)
    assert open_.happened == 0
