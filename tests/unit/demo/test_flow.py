"""The demo's program, part by part and, in process, as a whole."""

import pytest

from aiopype import Flow, Processor, Source, SyncProtocol
from aiopype.demo import flow, outputs
from aiopype.demo.server import quote


class Recorder(Processor):
    """Keeps what it is given."""

    def __init__(self, name, handler):
        super().__init__(name, handler)
        self.taken = []

    def take(self, *args):
        self.taken.append(args)


@pytest.fixture
def emitted():
    """Gives quotes of days to a processor's handle; returns the events that it emits."""

    def run(processor, event, days):
        protocol = SyncProtocol()
        source = Source("aapl.source", protocol)
        tested = processor("aapl.tested", protocol)
        recorder = Recorder("aapl.recorder", protocol)
        source.on("data", tested.handle)
        tested.on(event, recorder.take)
        protocol.freeze()
        for day in days:
            source.emit("data", quote(day), "2026-01-01T00:00:00+00:00")
        return recorder.taken

    return run


@pytest.fixture
def file(tmp_path):
    return tmp_path / "new folder" / "prices.csv"


@pytest.fixture
def output(file):
    return flow.CSVOutput("aapl.output", SyncProtocol(), file, "price")


@pytest.fixture
def small(monkeypatch, tmp_path, days):
    """The demo with four days and files of its own; returns its outputs."""
    monkeypatch.setattr(flow, "read_days", lambda: days)
    for module in (flow, outputs):
        monkeypatch.setattr(module, "PRICE_FILE", tmp_path / "aapl.csv")
        monkeypatch.setattr(module, "BUSY_FILE", tmp_path / "busy.csv")
    return outputs.outputs_of(days)


def test_a_price_is_emitted_for_each_quote(emitted, days):
    assert emitted(flow.Prices, "price", days) == [
        ("2008-01-18", 161.36),
        ("2008-01-22", 155.64),
        ("2008-01-23", 139.072),
        ("2008-01-24", 135.6),
    ]


def test_a_day_is_busy_above_fifty_million_shares_and_not_at_them(emitted, days):
    assert emitted(flow.BusyDays, "busy", days) == [
        ("2008-01-22", 86965700),
        ("2008-01-23", 120463200),
    ]


def test_rows_are_appended_below_one_header(output, file):
    output.write("2000-03-01", 130.31)
    output.write("2000-03-02", 122.0)
    assert file.read_text() == "time;price\n2000-03-01;130.31\n2000-03-02;122.0\n"


def test_an_event_that_comes_again_makes_no_second_row(output, file):
    for _ in range(3):
        for day in range(1, 10):
            output.write(f"2000-03-0{day}", 100.0 + day)
    lines = file.read_text().splitlines()
    assert lines == ["time;price", *(f"2000-03-0{day};{100.0 + day}" for day in range(1, 10))]


def test_a_new_writer_knows_what_the_one_before_has_written(output, file):
    output.write("2000-03-01", 1.0)
    output.write("2000-03-02", 2.0)
    following = flow.CSVOutput("aapl.output", SyncProtocol(), file, "price")
    following.write("2000-03-02", 2.0)
    following.write("2000-03-03", 3.0)
    output.write("2000-03-03", 3.0)
    assert file.read_text() == "time;price\n2000-03-01;1.0\n2000-03-02;2.0\n2000-03-03;3.0\n"


def test_rows_are_appended_to_a_file_that_has_only_a_header(output, file):
    file.parent.mkdir()
    file.write_text("time;price\n")
    output.write("2000-03-01", 1.0)
    assert file.read_text() == "time;price\n2000-03-01;1.0\n"


def test_to_build_the_writer_touches_no_file(output, file):
    assert not file.parent.exists()


def test_the_flow_runs_in_process_and_ends_when_the_market_closes(small):
    Flow(flow.FlowConfig()).start()
    assert [output.fault() for output in small] == [None, None]


def test_a_flow_that_runs_again_adds_nothing(small):
    for _ in range(2):
        Flow(flow.FlowConfig()).start()
    assert [output.fault() for output in small] == [None, None]


def test_the_flow_has_the_demos_name_and_directory():
    assert flow.dataflow.name == "demo"
    assert flow.dataflow.config.FLOWS == ("aapl",)
    assert flow.dataflow.config.DATA_DIR == flow.DATA_DIR
    assert flow.DATA_DIR.name == "demo"


async def test_an_error_that_is_not_the_closed_market_is_logged_and_not_the_end(caplog):
    source = flow.QuoteSource("aapl.source", SyncProtocol(), "AAPL")
    await source.error_handler(TimeoutError("no answer"))
    assert "TimeoutError: no answer" in caplog.text
