"""What is removed before a run, and when nothing is."""

import os

import pytest

from aiopype.broker import lock
from aiopype.demo.directory import empty
from aiopype.errors import BrokerError


@pytest.fixture
def used(tmp_path):
    """A directory after a run, with a file that is not the demo's."""
    for file in ("kafka/broker.lock", "kafka/data/topic-0/0.log", "faust/v1/x", "aapl.csv", "mine"):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    return tmp_path


def names(directory):
    files = (path for path in directory.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(directory)) for path in files)


def test_what_a_run_left_is_removed_and_nothing_else(used):
    empty(used, [used / "aapl.csv", used / "busy.csv"])
    assert names(used) == ["kafka/broker.lock", "mine"]
    assert sorted(path.name for path in used.iterdir()) == ["kafka", "mine"]


def test_a_lock_file_stays_the_same_file(used):
    before = (used / "kafka" / "broker.lock").stat().st_ino
    empty(used, [])
    assert (used / "kafka" / "broker.lock").stat().st_ino == before


def test_a_directory_is_not_touched_while_a_broker_holds_it(used):
    before = names(used)
    held = lock.acquire(used / "kafka" / "broker.lock")
    try:
        with pytest.raises(BrokerError, match="a demo runs in"):
            empty(used, [used / "aapl.csv"])
    finally:
        os.close(held)
    assert names(used) == before


def test_the_lock_is_free_for_the_broker_afterwards(used):
    empty(used, [])
    held = lock.acquire(used / "kafka" / "broker.lock")
    assert held is not None
    os.close(held)


def test_a_directory_that_does_not_exist_is_made(tmp_path):
    empty(tmp_path / "new" / "demo", [])
    assert (tmp_path / "new" / "demo" / "kafka").is_dir()


def test_a_directory_that_cannot_be_made_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="set AIOPYPE_DATA_DIR to another"):
        empty(tmp_path / "file" / "demo", [])
