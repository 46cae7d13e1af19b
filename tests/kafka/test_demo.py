"""The demo as a person runs it: `python -m aiopype.demo`, with a Kafka of its own.

The files are compared with the data here once more, without the demo's own check.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import aiopype.demo

pytestmark = pytest.mark.kafka

PACKAGE = Path(aiopype.demo.__file__).parent


@pytest.fixture
def demo(tmp_path):
    """Starts demos, all in one data directory; none is left at the end."""
    started = []

    def start():
        environment = {
            **os.environ,
            "PYTHONPATH": str(PACKAGE.parents[1]),
            "AIOPYPE_DATA_DIR": str(tmp_path),
            "AIOPYPE_BROKER": "127.0.0.1:1",  # nobody is there, and nobody shall be asked
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "aiopype.demo"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def prices(tmp_path):
    """Reads the rows that the demo has written."""

    def read():
        file = tmp_path / "demo" / "aapl.csv"
        return file.read_text().splitlines()[1:] if file.exists() else []

    return read


def javas(directory):
    """The Java processes that work below the directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if "java" in process.name() and Path(process.cwd()).is_relative_to(directory):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_every_day_is_in_the_file_exactly_once_in_order_with_its_price(demo, tmp_path):
    process = demo()
    out, err = process.communicate(timeout=115)
    assert process.returncode == 0, out + err

    data = (PACKAGE / "aapl-daily.csv").read_text().splitlines()[1:]
    days = [line.split(",") for line in data]
    written = (tmp_path / "demo" / "aapl.csv").read_text().splitlines()
    assert written == ["time;price", *(f"{day};{price}" for day, price, _ in days)]
    busy = (tmp_path / "demo" / "busy.csv").read_text().splitlines()
    picked = [f"{day};{shares}" for day, _, shares in days if int(shares) > 50_000_000]
    assert busy == ["time;shares", *picked]

    assert "3,270 of 3,270 events" in out
    assert str(tmp_path / "demo" / "aapl.csv") in out
    for sign_of_trouble in ("WARNING", "ERROR", "CRITICAL", "Traceback"):
        assert sign_of_trouble not in err
    assert not javas(tmp_path)


def test_ctrl_c_ends_it_with_what_was_done_and_a_second_demo_leaves_the_first_alone(
    demo, prices, tmp_path
):
    first = demo()
    deadline = time.monotonic() + 60
    while len(prices()) < 50:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline, "no prices were written"
        time.sleep(0.05)
    assert javas(tmp_path)

    second = demo()
    _, err = second.communicate(timeout=30)
    assert second.returncode == 1
    assert "a demo runs in" in err
    assert first.poll() is None

    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=40)
    assert first.returncode == 1
    rows = prices()
    assert 50 <= len(rows) < 3270
    assert f"{len(rows):,} of 3,270 events" in out
    assert "Traceback" not in err
    data = (PACKAGE / "aapl-daily.csv").read_text().splitlines()[1:]
    assert rows == [";".join(line.split(",")[:2]) for line in data[: len(rows)]]
    assert not javas(tmp_path)
