"""`aiopype status` beside running workers, and where none runs: asked of a real broker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

pytestmark = pytest.mark.kafka

PIPELINE = """
    import asyncio, os
    from aiopype import AsyncFlow, Manager, PermanentError, Processor, Source

    class Numbers(Source):
        async def start(self):
            for n in range(20):
                self.checkpoint(n)
                await self.emit_async("number", n, key=n)
            await asyncio.sleep(3600)

    class Twice(Processor):
        def handle(self, n):
            if n == 13:
                raise PermanentError("not this one")
            self.emit("twice", 2 * n)

    class Line(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            self.numbers = Numbers(self.build_processor_name("numbers"), handler)
            self.twice = Twice(self.build_processor_name("twice"), handler)
            self.numbers.on("number", self.twice.handle)

    class Config:
        FLOWS = [os.environ["NAME"]]
        NAMESPACE = "space"
        WEB_PORT = 0

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

    if __name__ == "__main__":
        dataflow.start()
"""


@pytest.fixture
def status(tmp_path: Path, kafka: str) -> Callable[..., str]:
    """Run `aiopype status program.py ...` of a flow; return what it said."""

    def run(name: str, *words: str, code: int = 0, broker: str = kafka) -> str:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("AIOPYPE_")}
        result = subprocess.run(
            [sys.executable, "-m", "aiopype", "status", "program.py", *words],
            cwd=tmp_path, env={**environ, "AIOPYPE_BROKER": broker, "NAME": name},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert result.returncode == code, f"{result.stdout}{result.stderr}"
        return result.stdout + result.stderr

    return run


async def test_a_flow_is_told_beside_its_workers_and_without_them(
    kafka: str, start: Any, wait_until: Any, status: Any
) -> None:
    name = "seen"
    workers = [start(PIPELINE, AIOPYPE_BROKER=kafka, NAME=name) for _ in range(2)]
    for worker in workers:
        wait_until(lambda w=worker: "is up on" in w.text, seconds=60, what=worker)
    told: dict[str, Any] = {}

    def is_done() -> bool:
        told.update(json.loads(status(name, "--json")))
        return bool(told["dead_letters"]) and told["events"][0]["lag"] == 0

    wait_until(is_done, seconds=30, what=workers[0])

    names = sorted(f"{socket.gethostname()}:{worker.pid}" for worker in workers)
    assert [worker["worker"] for worker in told["workers"]] == names
    assert sum(worker["sources"] for worker in told["workers"]) == 1
    numbers, *_ = told["events"]
    assert (numbers["event"], numbers["topic"]) == (
        "seen.numbers.number",
        "space.seen.numbers.number",
    )
    assert {partition["owner"] for partition in numbers["partitions"]} <= set(names)
    assert sum(p["committed"] or 0 for p in numbers["partitions"]) > 20  # with markers
    assert told["dead_letters"] == [
        {"component": "seen.twice", "letters": 1, "open": 1, "replayed": 0, "discarded": 0}
    ]
    assert [trouble["kind"] for trouble in told["troubles"]] == ["dead_letters"]
    assert "dead_letters: seen.twice has open dead letters: 1" in status(name, "--check", code=1)

    for worker in workers:
        worker.send(signal.SIGTERM)
    for worker in workers:
        assert worker.wait(20) == 0
    await taken_back(kafka, numbers["topic"])
    told = json.loads(status(name, "--json"))
    assert told["events"][0]["lag"] == 0  # nothing but a marker and what was taken back

    await written(kafka, numbers["topic"], seconds_ago=90)
    told = json.loads(status(name, "--json"))

    assert told["events"][0]["lag_seconds"] == pytest.approx(90, abs=30)
    assert [trouble["kind"] for trouble in told["troubles"]] == ["no_worker", "dead_letters"]
    assert "! no worker runs; " in status(name)


async def taken_back(kafka: str, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id="taken-back")
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"[1]", partition=0)
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def written(kafka: str, topic: str, *, seconds_ago: float) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        at = int((time.time() - seconds_ago) * 1000)
        await producer.send_and_wait(topic, b"[1]", partition=0, timestamp_ms=at)
    finally:
        await producer.stop()


async def test_looking_joins_no_group_and_creates_no_topic(
    kafka: str, start: Any, status: Any
) -> None:
    start(PIPELINE, command=("-c", "")).wait(10)

    assert "no_worker: no worker runs" in status("nobodys", "--check", code=1)

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        found = [*await admin.list_topics(), *(g for g, *_ in await admin.list_consumer_groups())]
    finally:
        await admin.close()
    assert not [each for each in found if "nobodys" in each]


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_broker_that_is_down_is_told(start: Any, status: Any, is_silent: bool) -> None:
    start(PIPELINE, command=("-c", "")).wait(10)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if is_silent:
            server.listen()

        said = status("lonely", "--timeout", "1", code=1, broker=address)

    why = "did not tell all in 1 s" if is_silent else "no Kafka broker answers at"
    assert why in said
    assert address in said
    assert len(said.splitlines()) == 1
