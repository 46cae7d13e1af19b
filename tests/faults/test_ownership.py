"""Sources run on one worker of several; another takes over when that one is gone."""

from __future__ import annotations

import signal
from typing import Any

import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.faults]

PROGRAM = """
    import asyncio
    from aiopype import AsyncFlow, Manager, Source

    class Ticks(Source):
        async def start(self):
            n = 0
            while True:
                await self.emit_async("tick", n)
                n += 1
                await asyncio.sleep(0.1)

    class Only(Manager):
        name = "only"

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Ticks(self.build_processor_name("source"), handler)

    class Config:
        FLOWS = ["only"]

    dataflow = AsyncFlow(Config(), name="only-flow")

    if __name__ == "__main__":
        dataflow.start()
"""
RUNS = "source only.source starts"


def test_the_sources_run_on_one_worker_and_move_when_it_is_killed_or_stopped(
    kafka: str, start: Any, wait_until: Any
) -> None:
    def workers(count: int) -> list[Any]:
        found = [start(PROGRAM, AIOPYPE_BROKER=kafka) for _ in range(count)]
        for worker in found:
            wait_until(lambda w=worker: "is up on" in w.text, seconds=30, what=worker.text)
        return found

    def running(candidates: list[Any]) -> list[Any]:
        return [w for w in candidates if w.text.count(RUNS) > w.text.count("are stopped here")]

    three = workers(3)
    wait_until(lambda: len(running(three)) == 1, seconds=30, what="one owner")
    (owner,) = running(three)

    owner.send(signal.SIGKILL)
    others = [worker for worker in three if worker is not owner]
    # The session of a killed worker lasts 10 s.
    wait_until(lambda: len(running(others)) == 1, seconds=15, what="a successor of the killed one")

    (owner,) = running(others)
    (last,) = (worker for worker in others if worker is not owner)
    owner.send(signal.SIGTERM)
    wait_until(lambda: running([last]) == [last], seconds=5, what="a successor of the stopped one")
    assert owner.wait(15) == 0
    last.send(signal.SIGTERM)
    assert last.wait(15) == 0
