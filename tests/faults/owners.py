"""Workers that share ten sources, and what stands in their topics."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from .report import Result

__all__ = ["PROGRAM", "SOURCES", "Counts", "Owners", "Takeover", "takeovers"]

SOURCES = 10

#: Each source counts, from where it was; that is an upstream which can be read again.
PROGRAM = f"""
    import asyncio, os, threading, time
    from aiopype import AsyncFlow, Manager, Source

    last = {{}}

    def tell():
        while True:
            time.sleep(1)
            if last:
                print("last run at", max(last.values()), flush=True)

    class Numbers(Source):
        events = ("number",)

        async def start(self):
            n = self.position or 0
            while True:
                n += 1
                last[self.name] = time.time()
                self.checkpoint(n)
                await self.emit_async("number", n, self.epoch, os.getpid())
                await asyncio.sleep(0.02)

    class Many(Manager):
        name = "many"

        def __init__(self, handler):
            super().__init__(handler)
            for n in range({SOURCES}):
                Numbers(self.build_processor_name(f"s{{n}}"), handler)

    class Config:
        FLOWS = ["many"]
        WEB_PORT = 0

    dataflow = AsyncFlow(Config(), name="many-flow")

    if __name__ == "__main__":
        threading.Thread(target=tell, daemon=True).start()
        dataflow.start()
"""


class Written(NamedTuple):
    """One event: its number, the epoch and process of the owner, and when it was emitted."""

    number: int
    epoch: int
    pid: int
    seconds: float


class Counts(NamedTuple):
    """What was counted: events, those that are missing or there twice, epochs that interleave."""

    events: int
    lost: int
    repeated: int
    interleaved: int

    @classmethod
    def of(cls, written: dict[int, list[Written]]) -> Counts:
        lost = repeated = interleaved = 0
        for events in written.values():
            numbers = Counter(event.number for event in events)
            lost += sum(1 for n in range(1, max(numbers, default=0) + 1) if n not in numbers)
            repeated += sum(numbers.values()) - len(numbers)
            interleaved += sum(
                1
                for one, after in pairwise(events)
                if after.epoch < one.epoch or after.number < one.number
            )
        return cls(sum(map(len, written.values())), lost, repeated, interleaved)

    def check(self) -> None:
        assert self[1:] == (0, 0, 0), self


class Takeover(NamedTuple):
    """Between two owners: which source, when the later one wrote first, and how long nobody did."""

    source: int
    at_seconds: float
    gap_seconds: float


class Owners:
    """Starts workers, and looks at what their sources wrote, from outside.

    Arguments:
        broker: `host:port`.
        start: starts a program (the fixture).
        records: reads a topic (the fixture).
        wait_until: waits for a condition (the fixture).
    """

    def __init__(self, broker: str, start: Any, records: Any, wait_until: Any) -> None:
        self._broker = broker
        self._start = start
        self._records: Callable[[str, str], Awaitable[list[Any]]] = records
        self._wait_until = wait_until
        self.workers: list[Any] = []

    def work(self, broker: str | None = None) -> Any:
        """Start one more worker, through another address of the broker; it is not up yet."""
        worker = self._start(PROGRAM, AIOPYPE_BROKER=broker or self._broker)
        self.workers.append(worker)
        return worker

    def up(self) -> None:
        """Wait until all workers are up."""
        for worker in self.workers:
            self._wait_until(lambda w=worker: "is up on" in w.text, seconds=60, what=worker)

    def kill(self, worker: Any) -> None:
        worker.send(signal.SIGKILL)
        worker.wait(5)
        self.workers.remove(worker)

    def terminate(self, worker: Any) -> None:
        worker.send(signal.SIGTERM)
        assert worker.wait(15) == 0
        self.workers.remove(worker)

    def spread(self) -> list[int]:
        """How many sources each worker runs, by what is in the topics since two seconds."""
        owners = self.owners(since=time.time() - 2)
        return sorted(Counter(owners.values()).values(), reverse=True)

    def owners(self, since: float) -> dict[int, int]:
        """The process that wrote last of each source, if after a moment."""
        lasts = {n: events[-1] for n, events in self.read().items() if events}
        return {n: last.pid for n, last in lasts.items() if last.seconds > since}

    def spreads(self, *counts: int, seconds: float = 60) -> None:
        """Wait until the sources are spread so."""
        deadline = time.monotonic() + seconds
        while (found := self.spread()) != list(counts):
            logs = "\n".join(worker.text[-3000:] for worker in self.workers)
            assert time.monotonic() < deadline, f"{found}, not {counts}, after {seconds} s\n{logs}"
            time.sleep(0.5)

    def ended(self) -> Counts:
        """Stop all workers; count what their sources have written."""
        for worker in list(self.workers):
            self.terminate(worker)
        return self.counts()

    def counts(self) -> Counts:
        """Count what the sources have written."""
        return Counts.of(self.read())

    def result(self, fault: str, seed: int, faults: int, seconds: float | None) -> Result:
        """What there is to report of a fault, by now."""
        counts = self.counts()
        return Result(
            fault, "exactly_once", seed, faults, counts.events, counts.lost, counts.repeated,
            counts.interleaved, 0, 0, seconds,
        )  # fmt: skip

    def last_run(self, worker: Any) -> float:
        """When a source of this worker was about to emit the last time, by its own word."""
        return max(float(text) for text in re.findall(r"last run at ([\d.]+)", worker.text))

    def read(self) -> dict[int, list[Written]]:
        """What each source has written, in order; a source has one partition, without keys."""
        return asyncio.run(self._read())

    async def _read(self) -> dict[int, list[Written]]:
        topics = [f"many.s{n}.number" for n in range(SOURCES)]
        found = await asyncio.gather(*(self._records(self._broker, topic) for topic in topics))
        return {n: [_written(record) for record in records] for n, records in enumerate(found)}


def _written(record: Any) -> Written:
    return Written(*msgspec.json.decode(record.value), record.timestamp / 1000)


def takeovers(written: dict[int, list[Written]]) -> Iterator[Takeover]:
    """Yield each change of an owner."""
    for source, events in written.items():
        for one, next_one in pairwise(events):
            if next_one.epoch != one.epoch:
                yield Takeover(source, next_one.seconds, next_one.seconds - one.seconds)
