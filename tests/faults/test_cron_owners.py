"""A source that ticks every second on one of two workers, and every end its owner can have."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from itertools import pairwise
from typing import Any

import msgspec
import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(200)]

SESSION_SECONDS = 10.0
FAILOVER_SECONDS = SESSION_SECONDS + 5.0

PROGRAM = """
    from aiopype import AsyncFlow, Manager
    from aiopype.sources import CronSource

    class Ticks(Manager):
        name = "ticks"

        def __init__(self, handler):
            super().__init__(handler)
            name = self.build_processor_name("clock")
            CronSource(name, handler, "* * * * * *", {"missed": "all", "grace_seconds": 2})

    class Config:
        FLOWS = ["ticks"]
        WEB_PORT = 0

    dataflow = AsyncFlow(Config(), name="ticks-flow")

    if __name__ == "__main__":
        dataflow.start()
"""
OWNS = re.compile(r"source ticks\.clock is this worker's, epoch (\d+)")


@pytest.fixture
def work(start: Any, kafka: str, wait_until: Any) -> Any:
    """Start a worker; return when it is up."""

    def start_worker() -> Any:
        worker = start(PROGRAM, AIOPYPE_BROKER=kafka)
        wait_until(lambda: "is up on" in worker.text, seconds=60, what=worker)
        return worker

    return start_worker


def test_two_workers_never_both_tick_and_no_instant_is_missing(
    work: Any, read_topic: Any, wait_until: Any
) -> None:
    def epoch(worker: Any) -> int:
        return max((int(number) for number in OWNS.findall(worker.text)), default=0)

    def ticks() -> list[int]:
        found = asyncio.run(read_topic("ticks.clock.cron"))
        return [msgspec.json.decode(record.value)[0] for record in found]

    def ticks_now(seconds: float, what: str) -> None:
        wait_until(lambda: ticks()[-1] > time.time() - 2, seconds=seconds, what=what)

    workers = [work(), work()]
    wait_until(lambda: any(map(epoch, workers)), seconds=30, what="an owner")
    ticks_now(10, "ticks of the first owner")

    frozen, other = sorted(workers, key=epoch, reverse=True)
    frozen.send(signal.SIGSTOP)
    wait_until(lambda: epoch(other) > 1, seconds=FAILOVER_SECONDS, what="one after the frozen one")
    ticks_now(10, "ticks while the first owner is frozen")
    frozen.send(signal.SIGCONT)
    time.sleep(3)

    owner, other = sorted(workers, key=epoch, reverse=True)
    last = epoch(owner)
    owner.send(signal.SIGKILL)
    wait_until(lambda: epoch(other) > last, seconds=FAILOVER_SECONDS, what="one after the killed")
    ticks_now(10, "ticks of the last owner")

    other.send(signal.SIGTERM)
    assert other.wait(15) == 0
    instants = ticks()
    steps = [after - before for before, after in pairwise(instants)]
    assert steps == [1] * (len(instants) - 1), f"{instants[0]} and then steps of {steps}"
    assert len(instants) > FAILOVER_SECONDS
    texts = " ".join(worker.text for worker in workers)
    assert "instants were missed" in texts
