"""How long an event takes from its producer through both steps to a consumer, at a steady pace."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import orjson
from confluent_kafka import Consumer, Producer

from benchmarks.measure import running
from benchmarks.records import Topics
from benchmarks.workload import Job, broken, key, quote

__all__ = ["PER_SECOND", "Latency", "latency"]

PER_SECOND = 200
_COUNT = 2000
_WARM_UP = 300
_START_SECONDS = 60.0
_LATE_SECONDS = 10.0


class Latency(NamedTuple):
    """Times in milliseconds."""

    arrived: int
    expected: int
    p50: float
    p99: float


def latency(
    job: Job, command: Sequence[str], folder: Path, failing: bytes | None = None
) -> Latency:
    """Send events at a steady pace through a pipeline that is warm, and time each.

    Arguments:
        failing: a key whose events no handler can take; those of the others are timed.
    """
    with Topics(job), running(job, command, folder) as process:
        ends = _Ends(job, failing)
        try:
            works = ends.warm_up(process)
            taken = ends.measure() if works else []
        finally:
            ends.close()
    if len(taken) < 2:
        return Latency(len(taken), ends.expected, float("nan"), float("nan"))
    cuts = statistics.quantiles(taken, n=100)
    return Latency(len(taken), ends.expected, cuts[49] * 1000, cuts[98] * 1000)


class _Ends:
    """The producer before a pipeline and the consumer after it."""

    def __init__(self, job: Job, failing: bytes | None) -> None:
        self.expected = _COUNT
        self._failing = failing
        self._job = job
        self._sent = 0
        self._producer = Producer({"bootstrap.servers": job.broker, "linger.ms": 0})
        self._consumer = Consumer(
            {
                "bootstrap.servers": job.broker,
                "group.id": f"{job.name}-latency",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,
            }
        )
        self._consumer.subscribe([job.out])

    def close(self) -> None:
        self._consumer.close()

    def warm_up(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the pipeline works, if it does, and send some events through it."""
        deadline = time.monotonic() + _START_SECONDS
        while self._receive(0.2) is None:
            self._send(time.time())
            if time.monotonic() > deadline or process.poll() is not None:
                return False
        for _ in range(_WARM_UP):
            self._send(time.time())
            self._receive(0.01)
        while self._receive(1.0) is not None:
            pass
        return True

    def measure(self) -> list[float]:
        """The seconds each event took, from the moment it was due."""
        first = self._sent
        self.expected = sum(key(first + i) != self._failing for i in range(_COUNT))
        start = time.time() + 0.1
        end = start + _COUNT / PER_SECOND + _LATE_SECONDS
        sender = threading.Thread(target=self._send_all, args=(start,))
        sender.start()
        taken: list[float] = []
        while len(taken) < self.expected and time.time() < end:
            due = self._receive(0.1)
            if due is not None:
                taken.append(time.time() - due)
        sender.join()
        return taken

    def _send_all(self, start: float) -> None:
        for i in range(_COUNT):
            due = start + i / PER_SECOND
            time.sleep(max(0.0, due - time.time()))
            self._send(due)
        self._producer.flush(10)

    def _send(self, due: float) -> None:
        # Its time goes through the pipeline as the quote's.
        value = quote(self._sent, utctime=repr(due))
        if key(self._sent) == self._failing:
            value = broken(value)
        self._producer.produce(self._job.raw, value, key=key(self._sent))
        self._producer.poll(0)
        self._sent += 1

    def _receive(self, seconds: float) -> float | None:
        message = self._consumer.poll(seconds)
        if message is None or message.error():
            return None
        return float(orjson.loads(message.value())["line"].split(",")[0])
