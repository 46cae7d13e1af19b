"""What is stored of sources is damaged: those do not run, the others do, operators mend it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(200)]

#: What becomes of the state of some sources, from what it was; the last one's stays.
DAMAGES: list[Any] = [
    lambda state: b"\xff{garbage",
    lambda state: None,
    lambda state: json.dumps({**state, "v": 2, "position": {"of": "the future"}}).encode(),
    lambda state: b"[]",
    lambda state: json.dumps(state).encode(),
]
SOURCES = len(DAMAGES)

#: What is said of each that is damaged.
REASONS = ["malformed", "has been deleted", "of version 2", "Expected `object`"]

PROGRAM = f"""
    import asyncio
    from aiopype import AsyncFlow, Manager, Source

    class Numbers(Source):
        events = ("number",)

        async def start(self):
            n = self.position or 0
            while True:
                n += 1
                self.checkpoint(n)
                await self.emit_async("number", n, self.epoch)
                await asyncio.sleep(0.02)

    class Stored(Manager):
        name = "stored"

        def __init__(self, handler):
            super().__init__(handler)
            for n in range({SOURCES}):
                Numbers(self.build_processor_name(f"s{{n}}"), handler)

    class Config:
        FLOWS = ["stored"]

    dataflow = AsyncFlow(Config(), name="stored-flow")

    if __name__ == "__main__":
        dataflow.start()
"""
TOPIC = "stored-flow.source-state"


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
def work(start: Any, kafka: str, wait_until: Any, port: int) -> Any:
    """Start the worker; return when it is up."""

    def start_worker() -> Any:
        worker = start(PROGRAM, AIOPYPE_BROKER=kafka, AIOPYPE_WEB_PORT=str(port))
        wait_until(lambda: "is up on" in worker.text, seconds=60, what=worker)
        return worker

    return start_worker


@pytest.fixture
def sources(kafka: str, tmp_path: Path) -> Any:
    """Run `aiopype sources` with these words."""

    def run(*words: str) -> str:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("AIOPYPE_")}
        result = subprocess.run(
            [sys.executable, "-m", "aiopype", "sources", *words],
            cwd=tmp_path, env={**environ, "AIOPYPE_BROKER": kafka}, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


def test_sources_whose_state_is_damaged_are_left_alone_until_they_are_reset(
    work: Any, sources: Any, kafka: str, read_topic: Any, wait_until: Any, port: int
) -> None:
    def events() -> list[list[Any]]:
        return asyncio.run(_events(read_topic))

    def flow(numbers: range) -> None:
        before = events()
        wait_until(
            lambda: all(len(events()[n]) > len(before[n]) + 5 for n in numbers),
            what=f"events of {list(numbers)}",
        )

    worker = work()
    wait_until(lambda: all(events()), what=worker)
    worker.send(signal.SIGTERM)
    assert worker.wait(15) == 0
    before = events()
    asyncio.run(_damage(kafka, read_topic))

    worker = work()
    damaged = range(SOURCES - 1)
    wait_until(lambda: worker.text.count("is in quarantine") == len(damaged), what=worker)
    flow(range(SOURCES - 1, SOURCES))
    # Nothing is done from a beginning that nobody asked for.
    assert events()[:-1] == before[:-1]
    problems = _ready(port)["problems"]
    assert set(problems) == {f"source stored.s{n}" for n in damaged}
    for n, reason in enumerate(REASONS):
        assert reason in problems[f"source stored.s{n}"]["reason"]
        assert f"aiopype sources reset TARGET stored.s{n} --position JSON" in worker.text
    assert sources("list", "program.py").count("unreadable") == len(damaged)

    for n in damaged:
        # The command as the error says it.
        said = re.search(rf"`aiopype sources (reset TARGET stored\.s{n} [^`]*)`", worker.text)
        assert said is not None
        position = before[n][-1][0]
        words = shlex.split(said[1].replace("TARGET", "program.py").replace("JSON", str(position)))
        assert f"stored.s{n}  goes on from there" in sources(*words, "--yes")
    flow(range(SOURCES))
    assert _ready(port)["problems"] == {}
    worker.send(signal.SIGTERM)
    assert worker.wait(15) == 0
    for found in events():
        assert [number for number, _ in found] == list(range(1, len(found) + 1))
        assert [epoch for _, epoch in found] == sorted(epoch for _, epoch in found)


async def _events(read_topic: Any) -> list[list[Any]]:
    topics = [read_topic(f"stored.s{n}.number") for n in range(SOURCES)]
    return [[json.loads(r.value) for r in found] for found in await asyncio.gather(*topics)]


async def _damage(kafka: str, read_topic: Any) -> None:
    states = {record.key: json.loads(record.value) for record in await read_topic(TOPIC)}
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for n, damage in enumerate(DAMAGES):
            key = f"stored.s{n}".encode()
            await producer.send_and_wait(TOPIC, damage(states[key]), key)


def _ready(port: int) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            report: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            report = json.load(error)
    return report
