"""What `/metrics` of a worker says, beside what was sent to it."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiopype.metrics.definitions import METRICS

pytestmark = pytest.mark.kafka

EVENTS = 300

PROGRAM = """
    import asyncio, os
    from aiopype import AsyncFlow, Manager, Processor, Retry, Source, TemporaryError
    from aiopype.transport import offsets

    offsets.LOOK_SECONDS = offsets.FRESH_SECONDS = 0.3

    class Numbers(Source):
        async def start(self):
            for n in range(300):
                await self.emit_async("number", n, key=str(n))
            while True:
                await self.emit_async("tick")
                await asyncio.sleep(0.02)

    class Step(Processor):
        retry = Retry(tries=3, first_delay_seconds=0.01)

        def handle(self, n):
            if n == 7:
                raise ValueError(f"cannot take {n}")
            if n == 9:
                raise TemporaryError("later", delay=50)
            self.emit("done", n)

    class Stuck(Processor):
        timeout_seconds = float("inf")

        async def wait(self):
            await asyncio.sleep(3600)

    class Sink(Processor):
        def take(self, n):
            pass

    class Line(Manager):
        name = "measured"

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.step = Step(self.build_processor_name("step"), handler)
            self.stuck = Stuck(self.build_processor_name("stuck"), handler)
            self.sink = Sink(self.build_processor_name("sink"), handler)
            self.source.on("number", self.step.handle)
            self.step.on("done", self.sink.take)
            self.source.on("tick", self.stuck.wait)

    class Config:
        FLOWS = ["measured"]

    dataflow = AsyncFlow(Config(), name="measured-flow")

    if __name__ == "__main__":
        dataflow.start()
"""


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
def program(kafka: str, port: int, start: Any) -> Any:
    """A worker: a handler that fails, one that asks for patience, and one that is stuck."""
    return start(PROGRAM, AIOPYPE_BROKER=kafka, AIOPYPE_WEB_PORT=str(port))


class Scrape:
    """What one scrape said.

    Attributes:
        names: of all metrics.
    """

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        self.names = [f"{f.name}_total" if f.type == "counter" else f.name for f in families]
        self.samples = [sample for family in families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a name that have these labels."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == f"aiopype_{name}" and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else -1.0


@pytest.fixture
def scrape(port: int) -> Callable[[], Scrape]:
    """Asks the worker for its metrics; while nobody answers there are none."""

    def ask() -> Scrape:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return Scrape(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return Scrape("")

    return ask


def test_metrics_say_what_was_sent_and_what_became_of_it(
    program: Any, scrape: Callable[[], Scrape], wait_until: Any
) -> None:
    step = {"component": "step"}

    def is_done() -> bool:
        now = scrape()
        return (
            now("events_total", component="step", event="done", outcome="handled") == EVENTS - 2
            and now("dead_letters_stored", **step) > 0
            and now("lag_records", event="tick") > 50
        )

    wait_until(is_done, what=program)
    now = scrape()

    assert set(now.names) <= set(METRICS)
    assert len(now.names) == len(set(now.names))
    # The events.
    assert now("events_total", event="number", outcome="emitted") == EVENTS
    assert now("events_total", event="number", outcome="handled") == EVENTS
    assert now("events_total", component="step", event="error", outcome="dead_letter") == 1
    assert now("event_age_seconds_count", event="number") == EVENTS
    assert now("batch_events_sum", event="number") == EVENTS
    assert now("batch_seconds_count", event="number") == now("batch_events_count", event="number")
    # What the handlers did: three tries of one event, and one of another, that waits.
    outcomes = {
        outcome: now("subscription_events_total", outcome=outcome, **step)
        for outcome in ("ok", "failed", "parked", "dead_letter")
    }
    assert outcomes == {"ok": EVENTS - 2, "failed": 4, "parked": 1, "dead_letter": 1}
    assert now("retries_total", **step) == 2
    assert now("errors_total", error="ValueError", **step) == 3
    assert now("errors_total", error="TemporaryError", **step) == 1
    assert now("parked_events", **step) == 1
    assert now("handling_seconds_count", **step) == EVENTS + 2
    # A dead letter and the marker of its transaction, maybe of an entry's too.
    assert 1 <= now("dead_letters_stored", **step) <= 4
    # The partitions: one handler is stuck, and what comes behind it waits for longer and longer.
    assert now("assigned_partitions", event="number") == 4
    assert now("lag_records", event="number") == now("lag_seconds", event="number") == 0
    assert now("lag_seconds", event="tick") > 0.5
    assert now("batch_age_seconds", event="tick") > 0.5
    # The brokers.
    assert now("transactions_total", of="events", outcome="committed") >= 1
    assert now("transactions_total", of="source", outcome="committed") >= 1
    assert now("transactions_total", outcome="fenced") == 0
    assert now("delivery_seconds_count", of="source") == now(
        "transactions_total", of="source", outcome="committed"
    )
    assert now("commits_total", outcome="ok") >= 1
    assert now("rebalances_total", group="events") >= 1
    assert now("rebalances_total", group="sources") >= 1
    # The worker.
    assert now("worker_ready") == 1
    assert now("worker_problem", check="group") == 0
    assert now("build_info") == 1
    assert now("event_loop_delay_seconds_count") > 1
    assert now("process_resident_memory_bytes") > 1e6
