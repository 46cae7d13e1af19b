"""What sources cost on Kafka: `python -m benchmarks.sources_kafka --help`.

    rest        a thousand REST sources, each with a request a second
    websocket   one websocket that is flooded, with a position and a key in each message

One worker, exactly once, with an embedded broker, and a server in a process of its own. Events
count when their transaction has been committed; processor time and memory are the worker's alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from aiopype import AsyncFlow, Manager, broker
from aiopype.pipelines import Pipelines
from aiopype.settings import Settings
from aiopype.sources import RestSource
from benchmarks import report
from benchmarks.sources_websocket import Positioned

KINDS = ("rest", "websocket")

#: Each source has a connection of its own.
OPEN_FILES = 8_192

#: Until the first event.
START_SECONDS = 60.0


class Sample(NamedTuple):
    """What a worker says of itself: when, events that are durable, processor time, memory."""

    seconds: float
    events: int
    processor_seconds: float
    bytes: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog="benchmarks.sources_kafka", description=__doc__)
    parser.add_argument("--only", choices=KINDS, help="one of the two")
    parser.add_argument("--sources", type=int, default=1_000, help="REST sources")
    parser.add_argument("--seconds", type=int, default=30, help="that are measured")
    parser.add_argument("--warm", type=int, default=45, help="seconds before, from the first event")
    parser.add_argument("--work", nargs=3, metavar=("KIND", "URL", "BROKER"), help="be the worker")
    options = parser.parse_args(arguments)
    if options.work:
        _work(*options.work, options.sources)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="aiopype-sources-"))
    try:
        print(report.load(), flush=True)
        with broker.running(folder / "kafka") as running:
            for kind in [options.only] if options.only else KINDS:
                with _server(kind) as url:
                    _measure(kind, url, running.address, options, folder)
        print(report.load())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _measure(kind: str, url: str, address: str, options: argparse.Namespace, folder: Path) -> None:
    count = options.sources if kind == "rest" else 1
    command = [sys.executable, "-m", __spec__.name, "--work", kind, url, address]
    command += ["--sources", str(count)]
    with (
        (folder / f"{kind}.log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as worker,
    ):
        samples = _samples(worker)
        deadline = time.monotonic() + START_SECONDS
        while not next(samples).events:
            if time.monotonic() > deadline:
                sys.exit(f"no event after {START_SECONDS:g} s: {folder}")
        for _ in range(options.warm):
            next(samples)
        found = [next(samples) for _ in range(options.seconds + 1)]
        worker.terminate()
    took = found[-1].seconds - found[0].seconds
    events = found[-1].events - found[0].events
    spent = found[-1].processor_seconds - found[0].processor_seconds
    rates = sorted(
        (after.events - one.events) / (after.seconds - one.seconds)
        for one, after in pairwise(found)
    )
    memory = max(sample.bytes for sample in found)
    print(
        f"{kind:<10} {count:>5,} sources  {events / took:>9,.0f} events/s "
        f"(each second {rates[0]:,.0f} to {rates[-1]:,.0f}, median {statistics.median(rates):,.0f})"
        f"  {spent / took:.2f} cores, {spent / events * 1e6:,.1f} us an event"
        f"  {memory / 1e6:,.0f} MB, grown {(found[-1].bytes - found[0].bytes) / 1e6:+,.1f}",
        flush=True,
    )


def _samples(worker: subprocess.Popen[str]) -> Iterator[Sample]:
    assert worker.stdout is not None
    for line in worker.stdout:
        yield Sample(*json.loads(line))
    sys.exit(f"the worker has ended with {worker.wait()}")


@contextmanager
def _server(kind: str) -> Iterator[str]:
    command = [sys.executable, "-m", f"benchmarks.sources_{kind}", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            said = server.stdout.readline().strip()
            yield said if said.startswith("http") else f"ws://127.0.0.1:{said}/"
        finally:
            server.kill()


# --- the worker


class Given:
    """What the worker was told to do; its managers take no arguments."""

    count = 0
    url = ""


class Rest(Manager):
    """So many sources."""

    name = "rest"

    def __init__(self, handler: Any) -> None:
        super().__init__(handler)
        for number in range(Given.count):
            name = self.build_processor_name(f"source{number}")
            RestSource(name, handler, f"{Given.url}/quote?id={number}", {"request_interval": 1})


class Websocket(Manager):
    """One source."""

    name = "websocket"

    def __init__(self, handler: Any) -> None:
        super().__init__(handler)
        Positioned(self.build_processor_name("source"), handler, Given.url)


class _Flow(AsyncFlow):
    """Says each second what it has done."""

    def build_for_kafka(self, settings: Settings) -> Pipelines:
        pipelines = super().build_for_kafka(settings)
        progress = pipelines.protocol.progress
        page = resource.getpagesize()

        def tell() -> None:
            while True:
                time.sleep(1)
                memory = int(Path("/proc/self/statm").read_text().split()[1]) * page
                events = sum(topic.emitted for topic in list(progress.topics.values()))
                sample = Sample(time.monotonic(), events, time.process_time(), memory)
                print(json.dumps(sample), flush=True)

        threading.Thread(target=tell, name="tell", daemon=True).start()
        return pipelines


def _work(kind: str, url: str, address: str, count: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))
    Given.count, Given.url = count, url
    _Flow(Config([kind]), name=f"bench-{kind}").start(address, web_port=0)


class Config:
    """What a worker runs."""

    def __init__(self, flows: list[str]) -> None:
        self.FLOWS = flows


if __name__ == "__main__":
    sys.exit(main())
