"""A real Kafka for every test that asks for one, started once a run."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from aiopype import broker


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the fault suite; here, because pytest asks only this file for them in time."""
    group = parser.getgroup("faults")
    group.addoption(
        "--guarantee",
        choices=("exactly_once", "at_least_once"),
        default="exactly_once",
        help="which one the faults are tried with",
    )
    group.addoption("--seed", type=int, help="of what the faults leave to chance")
    group.addoption(
        "--hours", type=float, default=0.0, help="how long each soak lasts; a minute without it"
    )


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker of this run's own."""
    with broker.running(tmp_path_factory.mktemp("kafka")) as embedded:
        yield embedded.address


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # aiokafka forgets a connection that it is making when its client is stopped.
    for item in items:
        if item.get_closest_marker("kafka"):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(autouse=True)
def _no_connection_is_left_to_the_next_test(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if request.node.get_closest_marker("kafka"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


async def _read(address: str, topic: str) -> list[Any]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        numbers = await consumer._client._wait_on_metadata(topic)
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        records: list[Any] = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for found in (await consumer.getmany(timeout_ms=500)).values():
                records += found
        return records
    finally:
        await consumer.stop()


@pytest.fixture
def records() -> Callable[[str, str], Awaitable[list[Any]]]:
    """Read every committed record that a topic of a broker has now; of a partition in order."""

    async def read(address: str, topic: str) -> list[Any]:
        async with asyncio.timeout(30):
            return await _read(address, topic)

    return read


@pytest.fixture
def read_topic(kafka: str, records: Any) -> Callable[[str], Awaitable[list[Any]]]:
    """Read every record that a topic has now; those of a partition in order."""
    return lambda topic: records(kafka, topic)


async def _committed(address: str, group: str, topic: str) -> dict[int, int | None]:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        numbers = await consumer._client._wait_on_metadata(topic)
        return {n: await consumer.committed(TopicPartition(topic, n)) for n in sorted(numbers)}
    finally:
        await consumer.stop()


@pytest.fixture
def committed(kafka: str) -> Callable[[str, str], Awaitable[dict[int, int | None]]]:
    """What a group has committed of a topic, by partition."""

    async def ask(group: str, topic: str) -> dict[int, int | None]:
        async with asyncio.timeout(30):
            return await _committed(kafka, group, topic)

    return ask


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Wait for a condition, with a deadline; the test fails when it does not come true."""

    def wait(condition: Callable[[], Any], seconds: float = 60.0, what: Any = "") -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                told = getattr(what, "text", what)  # of a program what it has said by then
                pytest.fail(f"not true after {seconds:g} s: {told or condition}")
            time.sleep(0.02)

    return wait


class Program:
    """A user's program in a process of its own."""

    def __init__(self, command: list[str], folder: Path, log: Path, env: dict[str, str]) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT
            )
        self.pid = self.process.pid

    @property
    def text(self) -> str:
        """What it has printed and logged."""
        return self.log.read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Wait for its end and return its status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {seconds:g} s:\n{self.text[-3000:]}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start `python FILE` of a text, or a command; every process is gone after the test."""
    programs: list[Program] = []

    def start_program(
        source: str, *, command: tuple[str, ...] = (), file: str = "program.py", **env: str
    ) -> Program:
        path = tmp_path / file
        path.write_text(textwrap.dedent(source))
        environ = {k: v for k, v in os.environ.items() if not k.startswith("AIOPYPE_")}
        environ |= {"PYTHONUNBUFFERED": "1", **env}
        arguments = [sys.executable, *(command or (str(path),))]
        log = tmp_path / f"log-{len(programs)}.txt"
        programs.append(Program(arguments, tmp_path, log, environ))
        return programs[-1]

    yield start_program
    for program in programs:
        program.kill()
