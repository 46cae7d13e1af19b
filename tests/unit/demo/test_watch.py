"""The thread that ends the flow, with files that a test writes."""

import threading

import pytest

from aiopype.demo import watch

SECONDS = 10  # to wait at most for what comes in milliseconds


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.002)


def complete(output):
    rows = [output.columns, *output.expected]
    output.file.write_text("".join(";".join(row) + "\n" for row in rows))


def test_the_flow_is_ended_when_all_files_are_complete(small):
    stopped, said = threading.Event(), []
    with watch.watching(small, stopped.set, 3600, said.append):
        for output in (small.trades, small.prices, small.busy):
            complete(output)
        assert not stopped.wait(0.1)
        small.gaps.file.write_text("after;seconds;trades\n20;0.3;33\n")
        assert stopped.wait(SECONDS)
    told = "2008-01-24 135.6 4 days, 2 busy 100 trades"
    assert [line.split() for line in said] == [told.split()]


@pytest.mark.parametrize("missing", ["prices", "busy", "trades"])
def test_the_flow_is_not_ended_while_a_file_is_incomplete(small, missing):
    stopped = threading.Event()
    small.gaps.file.write_text("after;seconds;trades\n20;0.3;33\n")
    with watch.watching(small, stopped.set, 3600, lambda line: None):
        for name in {"prices", "busy", "trades"} - {missing}:
            complete(getattr(small, name))
        assert not stopped.wait(0.1)
        complete(getattr(small, missing))
        assert stopped.wait(SECONDS)


def test_the_flow_is_ended_as_it_is_when_the_time_is_over(small):
    stopped, said = threading.Event(), []
    with watch.watching(small, stopped.set, 0.0, said.append):
        assert stopped.wait(SECONDS)
    assert said == ["Not complete after 0 s; ending it as it is."]


def test_progress_is_told_while_the_flow_runs(small, monkeypatch):
    monkeypatch.setattr(watch, "TELL_SECONDS", 0.0)
    told, said = threading.Event(), []

    def say(line):
        said.append(line)
        told.set()

    small.prices.file.write_text("time;price\n2000-03-01;1.5\n")
    with watch.watching(small, pytest.fail, 3600, say):
        assert told.wait(SECONDS)
    assert said[0].split() == ["2000-03-01", "1.5", "1", "days,", "0", "busy", "0", "trades"]


def test_a_flow_that_ends_before_is_not_ended_again_and_leaves_no_thread(small):
    calls = []
    with watch.watching(small, lambda: calls.append("stop"), 3600, pytest.fail):
        pass
    for output in (small.prices, small.busy, small.trades):
        complete(output)
    assert calls == []
    assert "watch" not in {thread.name for thread in threading.enumerate()}
