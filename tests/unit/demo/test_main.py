"""What the demo says and its exit status, with a flow and a broker that are none."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from aiopype.demo import __main__ as demo
from aiopype.errors import BrokerError


def write(output, rows):
    lines = [output.columns, *rows]
    output.file.parent.mkdir(parents=True, exist_ok=True)
    output.file.write_text("".join(";".join(row) + "\n" for row in lines))


def complete(outputs):
    for output in (outputs.prices, outputs.busy, outputs.trades):
        write(output, output.expected)
    outputs.gaps.file.write_text("after;seconds;trades\n20;0.3;33\n")


@pytest.fixture
def small(monkeypatch, tmp_path, small, days, session):
    """The demo with four days and a hundred trades in a directory of its own."""
    monkeypatch.setattr(demo, "DATA_DIR", tmp_path)
    monkeypatch.setattr(demo, "OPENED_FILE", tmp_path / "opened")
    monkeypatch.setattr(demo, "read_days", lambda: days)
    monkeypatch.setattr(demo, "read_trades", lambda: session)
    return small


@pytest.fixture
def flow(monkeypatch):
    """Runs a function in place of the flow."""

    def replace(start, *, owned=True):
        @contextmanager
        def running(data_dir):
            yield SimpleNamespace(owned=owned, address="127.0.0.1:9")

        monkeypatch.setattr(demo.broker, "running", running)
        fake = SimpleNamespace(start=lambda broker: start(), stop=lambda: None)
        monkeypatch.setattr(demo, "dataflow", fake)

    return replace


def test_the_status_is_0_when_every_file_is_correct(small, flow, capsys):
    flow(lambda: complete(small))
    assert demo.main() == 0
    told = capsys.readouterr().out
    assert "4 trading days" in told
    assert f"4 of     4 events in {small.prices.file}" in told
    assert f"2 of     2 events in {small.busy.file}" in told
    assert f"100 of   100 events in {small.trades.file}" in told
    assert "Gaps of the feed: 1, filled over REST with 33 trades." in told
    assert "4 days and 100 trades in" in told
    assert "Each is there exactly once" in told


def test_the_status_is_1_and_the_fault_is_told_when_a_day_is_missing(small, flow, capsys):
    def lose_a_day():
        complete(small)
        write(small.prices, [*small.prices.expected[:1], *small.prices.expected[2:]])

    flow(lose_a_day)
    assert demo.main() == 1
    told = capsys.readouterr().out
    assert "3 of     4 events" in told
    assert "is '2008-01-23;139.072', not '2008-01-22;155.64'" in told
    assert "exactly once" not in told


def test_the_status_is_1_and_the_fault_is_told_when_a_trade_is_there_twice(small, flow, capsys):
    def repeat_a_trade():
        complete(small)
        write(small.trades, [small.trades.expected[0], *small.trades.expected])

    flow(repeat_a_trade)
    assert demo.main() == 1
    assert "line 3 of" in capsys.readouterr().out


def test_the_status_is_1_when_the_feed_was_never_cut_off(small, flow, capsys):
    def leave_no_gap():
        complete(small)
        small.gaps.file.unlink()

    flow(leave_no_gap)
    assert demo.main() == 1
    assert "has no gap" in capsys.readouterr().out


@pytest.mark.parametrize("ended", [SystemExit(1), KeyboardInterrupt()], ids=["failed", "ctrl-c"])
def test_what_was_done_is_told_when_the_flow_has_ended_early(small, flow, capsys, ended):
    def start():
        write(small.prices, small.prices.expected[:2])
        raise ended

    flow(start)
    assert demo.main() == 1
    assert "2 of     4 events" in capsys.readouterr().out


def test_the_status_is_1_when_the_flow_failed_after_the_files_were_complete(small, flow):
    def start():
        complete(small)
        raise SystemExit(1)

    flow(start)
    assert demo.main() == 1


def test_nothing_of_an_earlier_run_counts(small, flow, tmp_path):
    complete(small)
    (tmp_path / "opened").touch()
    flow(lambda: None)
    assert demo.main() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kafka"]


def test_a_broker_that_cannot_be_started_is_one_line_and_status_1(small, flow, capsys):
    def start():
        raise BrokerError("Java is missing")

    flow(start)
    assert demo.main() == 1
    assert capsys.readouterr().err == "Error: Java is missing\n"


def test_another_runs_broker_is_not_joined(small, flow, capsys):
    flow(lambda: pytest.fail("the flow was started"), owned=False)
    assert demo.main() == 1
    assert "a demo runs in" in capsys.readouterr().err
