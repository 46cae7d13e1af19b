"""The CSV files of the demo's events."""

import pytest

from aiopype import SyncProtocol
from aiopype.demo.csv_output import CSVOutput


@pytest.fixture
def file(tmp_path):
    return tmp_path / "new folder" / "prices.csv"


@pytest.fixture
def output(file):
    return CSVOutput("aapl.output", SyncProtocol(), file, ("time", "price"))


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


def test_numbers_are_compared_as_numbers(output, file):
    for number in (8, 9, 10, 9, 11, 101, 12):
        output.write(number, 0.5)
    rows = file.read_text().splitlines()[1:]
    assert rows == ["8;0.5", "9;0.5", "10;0.5", "11;0.5", "101;0.5"]


def test_a_row_has_as_many_values_as_its_event(file):
    output = CSVOutput("trades.output", SyncProtocol(), file, ("after", "seconds", "trades"))
    output.write(500, 3.2, 318)
    assert file.read_text() == "after;seconds;trades\n500;3.2;318\n"


def test_a_new_writer_knows_what_the_one_before_has_written(output, file):
    output.write("2000-03-01", 1.0)
    output.write("2000-03-02", 2.0)
    following = CSVOutput("aapl.output", SyncProtocol(), file, ("time", "price"))
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
