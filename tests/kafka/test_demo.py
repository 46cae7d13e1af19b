"""The demo as a person runs it: `python -m aiopype.demo`, with a Kafka of its own.

The files are compared with the data here once more, without the demo's own check.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import aiopype.demo
from aiopype import broker

pytestmark = pytest.mark.kafka

PACKAGE = Path(aiopype.demo.__file__).parent

#: Day, price, shares.
DAYS = [line.split(",") for line in (PACKAGE / "aapl-daily.csv").read_text().splitlines()[1:]]

PRICES = ["time;price", *(f"{day};{price}" for day, price, _ in DAYS)]
BUSY = ["time;shares", *(f"{day};{shares}" for day, _, shares in DAYS if int(shares) > 50_000_000)]
TRADES = ["number;price", *(f"{n};{price}" for n, (_, price, _) in enumerate(DAYS[:1400], 1))]

DEMO = ("-m", "aiopype.demo")
FLOW = ("-m", "aiopype", "run", "aiopype.demo.flow:dataflow")


@pytest.fixture
def start(tmp_path):
    """Starts Python with some arguments, always on one data directory; none is left at the end."""
    started = []

    def run(*arguments, **environment):
        environment = {
            **os.environ,
            "PYTHONPATH": str(PACKAGE.parents[1]),
            "AIOPYPE_DATA_DIR": str(tmp_path),
            **environment,
        }
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def demo(start):
    """Starts demos."""
    # Nobody is at the broker that is configured, and nobody shall be asked.
    return lambda: start(*DEMO, AIOPYPE_BROKER="127.0.0.1:1")


@pytest.fixture
def lines(tmp_path):
    """Reads the whole lines of a file that the demo has written."""

    def read(name):
        file = tmp_path / "demo" / name
        return file.read_text().rpartition("\n")[0].splitlines() if file.exists() else []

    return read


@pytest.fixture
def values(records, tmp_path):
    """Reads the values of the topics that the demo has left."""

    async def read(*topics):
        with broker.running(tmp_path / "demo" / "kafka") as kafka:
            found = [await records(kafka.address, topic) for topic in topics]
        return [[json.loads(record.value) for record in topic] for topic in found]

    return read


def wait(process, condition, seconds=60):
    """Wait until a condition holds while a process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def stop(process):
    """Stop a flow; return what it logged."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=40)
    assert process.returncode == 0, err
    return err


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


async def test_every_day_and_trade_is_there_once_in_order_over_a_cut_of_the_feed(
    demo, start, lines, values, tmp_path
):
    process = demo()
    out, err = process.communicate(timeout=115)
    assert process.returncode == 0, out + err
    assert not javas(tmp_path)

    assert lines("aapl.csv") == PRICES
    assert lines("busy.csv") == BUSY
    assert lines("trades.csv") == TRADES
    assert "3,270 of 3,270 events" in out
    assert "1,400 of 1,400 events" in out
    assert str(tmp_path / "demo" / "trades.csv") in out
    # The feed's own warnings are what the demo shows.
    trouble = [line for line in err.splitlines() if re.search("WARNING|ERROR|CRITICAL|Trace", line)]
    assert trouble
    assert all(re.search(r"WARNING .*trades\.feed: .* it connects again in", t) for t in trouble)

    ((gap,), messages, quotes) = await values(
        "trades.feed.gap", "trades.feed.message", "aapl.source.data"
    )
    assert gap["filled"]
    assert gap["position"] == 500
    assert 300 <= gap["messages"] <= 900
    filled_to = 500 + gap["messages"]
    seconds = f"{gap['to'] - gap['from']:.1f}"
    assert lines("gaps.csv") == ["after;seconds;trades", f"500;{seconds};{gap['messages']}"]
    told = (
        "  feed   lost: ",
        f"  feed   back: a gap of {seconds} s after trade 500\n",
        f"  feed   gap filled: {gap['messages']} trades over REST, up to {filled_to:,}\n",
        f"Gaps of the feed: 1, filled over REST with {gap['messages']} trades.\n",
    )
    assert sorted(told, key=out.index) == list(told)
    assert [trade["number"] for trade in messages] == list(range(1, 1401))
    assert len(quotes) == 3270

    flow = start(*FLOW)  # it finds nothing that it does not have
    wait(flow, lambda: len(lines("gaps.csv")) == 3)
    err = stop(flow)
    assert 'position {"since":"2013-03-01"}' in err
    assert re.fullmatch(r"1400;[0-9.]+;0", lines("gaps.csv")[-1])
    assert [lines(name) for name in ("aapl.csv", "trades.csv")] == [PRICES, TRADES]


async def test_ctrl_c_ends_it_a_run_of_its_flow_goes_on_and_the_next_demo_begins_anew(
    demo, start, lines, values, tmp_path
):
    first = demo()
    wait(first, lambda: len(lines("aapl.csv")) > 50 and len(lines("trades.csv")) > 50)
    assert javas(tmp_path)

    second = demo()
    _, err = second.communicate(timeout=30)
    assert second.returncode == 1
    assert "a demo runs in" in err
    assert first.poll() is None

    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=40)
    assert first.returncode == 1
    assert "Traceback" not in err
    assert not javas(tmp_path)
    for name, whole in {"aapl.csv": PRICES, "trades.csv": TRADES}.items():
        written = lines(name)
        assert 50 < len(written) < len(whole)
        assert written == whole[: len(written)]
    assert f"{len(lines('aapl.csv')) - 1:,} of 3,270 events" in out

    flow = start(*FLOW)
    wait(flow, lambda: (lines("aapl.csv"), lines("trades.csv")) == (PRICES, TRADES))
    stop(flow)
    assert lines("busy.csv") == BUSY
    messages, quotes = await values("trades.feed.message", "aapl.source.data")
    assert [trade["number"] for trade in messages] == list(range(1, 1401))
    assert len(quotes) == 3270

    third = demo()
    wait(third, lambda: 50 < len(lines("aapl.csv")) < len(PRICES) and lines("trades.csv"))
    third.send_signal(signal.SIGINT)
    _, err = third.communicate(timeout=40)
    assert err.count("epoch 1, position none") == 2
    assert lines("trades.csv") == TRADES[: len(lines("trades.csv"))]
