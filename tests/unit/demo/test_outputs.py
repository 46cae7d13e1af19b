"""The check of the demo's result: it must really find what is wrong."""

import pytest

from aiopype.demo.outputs import Gaps, Output, outputs_of

LINES = ["time;price", "2000-03-01;1.5", "2000-03-02;2.5", "2000-03-03;3.5"]


@pytest.fixture
def output(tmp_path):
    expected = [tuple(line.split(";")) for line in LINES[1:]]
    return Output("aapl.prices.price", tmp_path / "aapl.csv", ("time", "price"), expected)


def write(output, lines):
    output.file.write_text("".join(f"{line}\n" for line in lines))


def test_a_complete_file_in_order_has_no_fault(output):
    write(output, LINES)
    assert output.fault() is None


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        pytest.param(
            [LINES[0], LINES[1], LINES[3]],
            "line 3 of {file} is '2000-03-03;3.5', not '2000-03-02;2.5'",
            id="a day is missing",
        ),
        pytest.param(
            LINES[:3],
            "{file} ends before line 4, '2000-03-03;3.5'",
            id="the last day is missing",
        ),
        pytest.param(
            [*LINES[:2], *LINES[1:]],
            "line 3 of {file} is '2000-03-01;1.5', not '2000-03-02;2.5'",
            id="a day is there twice",
        ),
        pytest.param(
            [*LINES, LINES[3]],
            "line 5 of {file} is one too many: '2000-03-03;3.5'",
            id="the last day is there twice",
        ),
        pytest.param(
            [LINES[0], LINES[2], LINES[1], LINES[3]],
            "line 2 of {file} is '2000-03-02;2.5', not '2000-03-01;1.5'",
            id="two days have changed places",
        ),
        pytest.param(
            [*LINES[:3], "2000-03-03;3.51"],
            "line 4 of {file} is '2000-03-03;3.51', not '2000-03-03;3.5'",
            id="a price is wrong",
        ),
        pytest.param(
            [*LINES[:3], "2000-03-03;3.5;3.5"],
            "line 4 of {file} is '2000-03-03;3.5;3.5', not '2000-03-03;3.5'",
            id="a row has a field too many",
        ),
        pytest.param(
            LINES[1:],
            "line 1 of {file} is '2000-03-01;1.5', not 'time;price'",
            id="the header is missing",
        ),
        pytest.param([], "{file} ends before line 1, 'time;price'", id="the file is empty"),
    ],
)
def test_the_first_fault_is_told_when(output, lines, fault):
    write(output, lines)
    assert output.fault() == fault.format(file=output.file)


def test_a_file_that_does_not_exist_has_no_rows_and_is_not_complete(output):
    assert output.rows() == []
    assert output.fault() == f"{output.file} ends before line 1, 'time;price'"


def test_a_row_that_is_not_written_to_its_end_does_not_count(output):
    output.file.write_text("time;price\n2000-03-01;1.5\n2000-03-0")
    assert output.rows() == [["2000-03-01", "1.5"]]
    assert output.fault() is not None


def test_the_expected_rows_are_the_days_the_busy_ones_and_the_trades(days, session):
    expected = outputs_of(days, session)
    assert [row[0] for row in expected.prices.expected] == [day.date for day in days]
    assert [row[1] for row in expected.prices.expected] == [day.close for day in days]
    assert expected.busy.expected == [("2008-01-22", "86965700"), ("2008-01-23", "120463200")]
    assert expected.trades.expected[:2] == [("1", "20.25"), ("2", "20.5")]
    assert len(expected.trades.expected) == 100


def test_a_feed_without_a_gap_is_a_fault(tmp_path):
    gaps = Gaps(tmp_path / "gaps.csv")
    assert "has no gap" in gaps.fault()
    gaps.file.write_text("after;seconds;trades\n")
    assert "has no gap" in gaps.fault()
    gaps.file.write_text("after;seconds;trades\n500;3.2;318\n")
    assert gaps.fault() is None
    assert gaps.rows() == [["500", "3.2", "318"]]


def test_the_faults_of_all_files_are_told(small):
    assert len(small.faults()) == 4
    assert [path.name for path in small.files] == ["aapl.csv", "busy.csv", "trades.csv", "gaps.csv"]
