"""The thread that ends the flow, with files that a test writes."""

import threading

import pytest

from aiopype.demo import watch
from aiopype.demo.outputs import Output

SECONDS = 10  # to wait at most for what comes in milliseconds


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.002)


@pytest.fixture
def prices(tmp_path):
    expected = [("2000-03-01", "1.5"), ("2000-03-02", "2.5")]
    return Output("aapl.prices.price", tmp_path / "aapl.csv", ("time", "price"), expected)


@pytest.fixture
def busy(tmp_path):
    expected = [("2000-03-02", "60000000")]
    return Output("aapl.busy_days.busy", tmp_path / "busy.csv", ("time", "shares"), expected)


def complete(output):
    rows = [output.columns, *output.expected]
    output.file.write_text("".join(";".join(row) + "\n" for row in rows))


def test_the_flow_is_ended_when_both_files_are_complete(prices, busy):
    stopped, said = threading.Event(), []
    with watch.watching(prices, busy, stopped.set, 3600, said.append):
        complete(prices)
        assert not stopped.wait(0.1)
        complete(busy)
        assert stopped.wait(SECONDS)
    assert [line.split() for line in said] == [["2000-03-02", "2.5", "2", "days,", "1", "busy"]]


def test_the_flow_is_ended_as_it_is_when_the_time_is_over(prices, busy):
    stopped, said = threading.Event(), []
    with watch.watching(prices, busy, stopped.set, 0.0, said.append):
        assert stopped.wait(SECONDS)
    assert said == ["Not complete after 0 s; ending it as it is."]


def test_progress_is_told_while_the_flow_runs(prices, busy, monkeypatch):
    monkeypatch.setattr(watch, "TELL_SECONDS", 0.0)
    told, said = threading.Event(), []

    def say(line):
        said.append(line)
        told.set()

    prices.file.write_text("time;price\n2000-03-01;1.5\n")
    with watch.watching(prices, busy, pytest.fail, 3600, say):
        assert told.wait(SECONDS)
    assert said[0].split() == ["2000-03-01", "1.5", "1", "days,", "0", "busy"]


def test_a_flow_that_ends_before_is_not_ended_again_and_leaves_no_thread(prices, busy):
    calls = []
    with watch.watching(prices, busy, lambda: calls.append("stop"), 3600, pytest.fail):
        pass
    complete(prices)
    complete(busy)
    assert calls == []
    assert "watch" not in {thread.name for thread in threading.enumerate()}
