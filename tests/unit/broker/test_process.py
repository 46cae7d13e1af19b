"""The broker's process with Python in the place of Java, which never serves."""

import os
import sys

import pytest

from aiopype.broker import lock, process
from aiopype.errors import BrokerError


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Launches Python code as the broker of the test's folder."""

    def run(code):
        command = [sys.executable, "-S", "-c", code]
        monkeypatch.setattr(process, "_commands", lambda *_: ("cluster", [command]))
        held = lock.acquire(tmp_path / "broker.lock")
        assert held is not None
        try:
            return process.launch(tmp_path, held, [], None)
        finally:
            os.close(held)

    return run


def test_a_broker_that_does_not_serve_in_time_is_ended(launch, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_START_SECONDS", 0.5)
    with pytest.raises(BrokerError, match=r"did not serve within 0\.5 s.*says nothing"):
        launch("import time; time.sleep(600)")
    assert lock.holder(tmp_path / "broker.lock") is None


def test_a_broker_that_ends_at_once_is_not_waited_for_and_its_last_lines_are_shown(launch):
    with pytest.raises(BrokerError) as caught:
        launch("for number in range(100): print('line', number)")
    shown = str(caught.value).splitlines()
    assert "ended before it served" in shown[0]
    assert shown[1:] == [f"line {number}" for number in range(70, 100)]


def test_lines_of_earlier_runs_are_not_shown_as_the_end_of_this_one(launch, tmp_path):
    (tmp_path / "broker.log").write_text("Address already in use\n")
    with pytest.raises(BrokerError) as caught:
        launch("print('another reason')")
    assert "in use" not in str(caught.value)


def test_a_long_log_is_put_aside_and_a_short_one_continued(launch, tmp_path):
    log = tmp_path / "broker.log"
    log.write_text("earlier\n")
    with pytest.raises(BrokerError):
        launch("print('now')")
    assert log.read_text() == "earlier\nnow\n"
    log.write_bytes(b"x" * 2_000_000)
    with pytest.raises(BrokerError):
        launch("print('now')")
    assert log.read_text() == "now\n"
    assert (tmp_path / "broker.log.1").stat().st_size == 2_000_000
