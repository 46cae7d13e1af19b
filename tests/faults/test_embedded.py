"""The embedded broker under a run that is killed: no Java is left, the data is."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from aiopype import broker

pytestmark = [pytest.mark.kafka, pytest.mark.faults]

PROGRAM = """
    import asyncio, os
    from aiopype import AsyncFlow, Manager, Processor, Source

    class Numbers(Source):
        async def start(self):
            if os.environ["RUN"] == "first":
                for n in range(1000):
                    await self.emit_async("number", n)

    class Shows(Processor):
        async def show(self, n):
            if os.environ["RUN"] == "first":
                await asyncio.sleep(3600)
            print("shown", n)

    class Kept(Manager):
        name = "kept"

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.shows = Shows(self.build_processor_name("shows"), handler)
            self.source.on("number", self.shows.show)

    class Config:
        FLOWS = ["kept"]

    dataflow = AsyncFlow(Config())
"""


def javas_in(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if "java" in process.name() and Path(process.cwd()) == folder:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def test_a_killed_run_leaves_no_java_and_the_next_one_goes_on_with_its_data(
    start: Any, wait_until: Any, records: Any, tmp_path: Path
) -> None:
    command = ("-m", "aiopype", "run", "program.py")
    first = start(PROGRAM, command=command, RUN="first")
    folder = tmp_path / ".aiopype" / "kafka"
    wait_until(lambda: "source kept.source has ended" in first.text, seconds=60, what=first)
    address = broker.find(folder)
    assert address is not None
    assert address.startswith("127.0.0.1:")
    assert javas_in(folder)

    # The source has ended, its last events may still be on their way.
    while len(await records(address, "kept.source.number")) < 1000:
        assert first.process.poll() is None, first.text
    first.send(signal.SIGKILL)
    first.wait(5)
    wait_until(lambda: not javas_in(folder), seconds=15, what="the broker has ended")

    second = start(PROGRAM, command=command, RUN="second")
    wait_until(lambda: second.text.count("shown") == 1000, seconds=60, what=second)
    second.send(signal.SIGTERM)
    assert second.wait(20) == 0
    wait_until(lambda: not javas_in(folder), seconds=5, what="the broker has ended")
    numbers = [int(line.split()[1]) for line in second.text.splitlines() if "shown" in line]
    assert numbers == list(range(1000))
