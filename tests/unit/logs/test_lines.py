import io
import logging
import threading
import time

import pytest

from aiopype.logs import Lines, are_for_programs, are_summed_up
from aiopype.logs.repeats import Repeats


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def lines(stream):
    """The handler, with windows of a quarter of a second."""
    handler = Lines(stream, Repeats(seconds=0.25))
    yield handler
    handler.close()


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_sum_is_told_though_nothing_more_is_logged(lines, stream, record):
    for _ in range(3):
        lines.handle(record())

    wait_until(lambda: "2 more times" in stream.getvalue())

    assert stream.getvalue().count("\n") == 2


def test_nothing_waits_where_nothing_repeats(lines, record):
    before = threading.active_count()

    lines.handle(record("a"))
    lines.handle(record("b"))

    assert threading.active_count() == before


def test_what_is_counted_is_told_at_the_end(stream, record):
    lines = Lines(stream)
    for _ in range(3):
        lines.handle(record())

    lines.close()

    assert stream.getvalue().splitlines() == [
        "it fails",
        "2 more times in 1 s, the last: it fails",
    ]
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "sums of the log"])


def test_records_of_many_threads_are_all_counted(stream, record):
    lines = Lines(stream)

    def log():
        for _ in range(500):
            lines.handle(record())

    threads = [threading.Thread(target=log) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines.close()

    assert "1,999 more times" in stream.getvalue()


def test_whether_the_log_sums_up_is_known(set_up, monkeypatch):
    set_up()
    assert are_summed_up()

    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    assert not are_summed_up()


def test_whether_programs_read_the_log_is_known(set_up):
    set_up("text")
    assert not are_for_programs()

    set_up("json")
    assert are_for_programs()
