"""Workers that are stuck end themselves and say where; what only looks stuck is left alone."""

from __future__ import annotations

import signal
import textwrap
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from aiopype.watchdog import EXIT_STATUS

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.timeout(180)]

PROGRAM = """
    import asyncio, os, pathlib, re, time
    from aiopype import AsyncFlow, Manager, Processor
    {head}

    def is_first():
        try:
            pathlib.Path(os.environ["FLAG"]).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    class Step(Processor):
        events = ("out",)
        timeout_seconds = 3_600.0

        {handler}

    class Stuck(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            self.inlet = Processor(self.build_processor_name("inlet"), handler)
            self.step = Step(self.build_processor_name("step"), handler)
            self.inlet.on("in", self.step.handle)

    class Config:
        FLOWS = [os.environ["NAME"]]

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

    if __name__ == "__main__":
        dataflow.start()
"""

BLOCKS = """
def handle(self, n):
    if is_first():
        time.sleep(1e6)
    self.emit("out", n)
"""
HANGS = """
async def handle(self, n):
    if is_first():
        await asyncio.sleep(1e6)
    self.emit("out", n)
"""
NEVER_LETS_GO = """
def handle(self, n):
    if is_first():
        re.match(r"(a+)+$", "a" * 64 + "b")  # holds the interpreter for years
    self.emit("out", n)
"""
WORKS = """
def handle(self, n):
    self.emit("out", n)
"""

#: A client of Kafka that has lost itself, once the flag is there.
NEVER_FETCHES = """
from aiokafka.consumer.fetcher import Fetcher
fetch = Fetcher._proc_fetch_request

async def hang(self, *args):
    if os.path.exists(os.environ["FLAG"]):
        await asyncio.sleep(1e6)
    return await fetch(self, *args)

Fetcher._proc_fetch_request = hang
"""
NEVER_JOINS = """
from aiokafka.consumer.group_coordinator import GroupCoordinator
beat, join = GroupCoordinator._do_heartbeat, GroupCoordinator._do_rejoin_group

async def lose(self):
    if not os.path.exists(os.environ["FLAG"]):
        return await beat(self)
    self.reset_generation()
    return False

async def fail(self, subscription):
    if not os.path.exists(os.environ["FLAG"]):
        return await join(self, subscription)
    await asyncio.sleep(0.1)
    return False

GroupCoordinator._do_heartbeat, GroupCoordinator._do_rejoin_group = lose, fail
"""


class Stuck:
    """A flow of one step, and workers of it."""

    def __init__(self, address: str, start: Any, folder: Path) -> None:
        self.name = f"stuck{uuid.uuid4().hex[:8]}"
        self._address = address
        self._start = start
        self.flag = folder / "flag"

    def worker(
        self, handler: str, head: str = "", command: tuple[str, ...] = (), **limits: str
    ) -> Any:
        """Start a worker; `handler` gets stuck in the first call of all."""
        env = {"NAME": self.name, "FLAG": str(self.flag), "AIOPYPE_BROKER": self._address}
        source = textwrap.dedent(PROGRAM).replace("    {handler}", textwrap.indent(handler, "    "))
        source = source.replace("{head}", head)
        return self._start(source, command=command, **env, **limits)

    async def send(self, count: int) -> None:
        """Write events into the first topic."""
        async with AIOKafkaProducer(bootstrap_servers=self._address) as producer:
            for n in range(count):
                await producer.send_and_wait(f"{self.name}.inlet.in", b"[%d]" % n, partition=0)

    @property
    def is_stuck(self) -> bool:
        """Whether a handler got stuck."""
        return self.flag.exists()


@pytest.fixture
def stuck(kafka: str, start: Any, tmp_path: Path) -> Stuck:
    return Stuck(kafka, start, tmp_path)


def is_up(worker: Any) -> bool:
    return "is up on" in worker.text


def handlers_line(handler: str) -> str:
    """The line that hangs, as it is found in a dump."""
    (line,) = (n for n, text in enumerate(handler.splitlines()) if "1e6" in text or "a+" in text)
    before = textwrap.dedent(PROGRAM).partition("    {handler}")[0].count("\n")
    return f'program.py", line {before + line + 1}'


async def until_handled(stuck: Stuck, read_topic: Any, count: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (found := {r.value for r in await read_topic(f"{stuck.name}.step.out")}) != {
        b"[%d]" % n for n in range(count)
    }:
        assert time.monotonic() < deadline, f"{len(found)} of {count} after {seconds} s"


@pytest.mark.parametrize(
    ("handler", "limits", "status", "reason"),
    [
        pytest.param(
            BLOCKS, {"AIOPYPE_WATCHDOG_LOOP_SECONDS": "3"}, EXIT_STATUS,
            "the event loop does not come round", id="a function that blocks the loop",
        ),
        pytest.param(
            HANGS, {"AIOPYPE_WATCHDOG_BATCH_SECONDS": "3"}, EXIT_STATUS,
            "is in work since", id="a coroutine that does not end",
        ),
        pytest.param(
            NEVER_LETS_GO, {"AIOPYPE_WATCHDOG_LOOP_SECONDS": "0.5"}, 1,
            "Timeout", id="C code that holds the interpreter", marks=pytest.mark.long,
        ),
    ],
)  # fmt: skip
async def test_a_stuck_worker_ends_and_says_where_and_another_takes_over(
    handler: str,
    limits: dict[str, str],
    status: int,
    reason: str,
    stuck: Stuck,
    read_topic: Any,
    wait_until: Any,
) -> None:
    first = stuck.worker(handler, **limits)
    wait_until(lambda: is_up(first), seconds=60, what=first)
    await stuck.send(20)
    wait_until(lambda: stuck.is_stuck, seconds=15, what=first)
    began = time.monotonic()

    # Not before the first is stuck: it might get the partition.
    second = stuck.worker(handler)
    assert first.wait(15) == status, first.text
    print(f"ended after {time.monotonic() - began:.1f} s")
    assert reason in first.text
    assert handlers_line(handler) in first.text, first.text

    await until_handled(stuck, read_topic, 20, seconds=40)
    second.send(signal.SIGTERM)
    assert second.wait(15) == 0, second.text


async def test_a_stuck_worker_of_the_faust_command_ends(stuck: Stuck, wait_until: Any) -> None:
    worker = stuck.worker(
        BLOCKS,
        command=("-m", "faust", "-A", "aiopype", "worker", "-l", "info"),
        AIOPYPE_FLOW="program.py",
        AIOPYPE_WATCHDOG_LOOP_SECONDS="3",
    )
    wait_until(lambda: "partitions assigned" in worker.text, seconds=60, what=worker)
    await stuck.send(1)

    assert worker.wait(15) == EXIT_STATUS, worker.text
    assert handlers_line(BLOCKS) in worker.text


@pytest.mark.parametrize(
    ("head", "limit", "reason"),
    [
        pytest.param(NEVER_FETCHES, "FETCH", "has room and is not fetched since",
                     id="a client that fetches no more"),
        pytest.param(NEVER_JOINS, "GROUP", "the worker is out of its group since",
                     id="a client that does not get back into its group", marks=pytest.mark.long),
    ],
)  # fmt: skip
async def test_a_worker_whose_client_is_lost_ends_and_another_takes_over(
    head: str, limit: str, reason: str, stuck: Stuck, read_topic: Any, wait_until: Any
) -> None:
    first = stuck.worker(WORKS, head, **{f"AIOPYPE_WATCHDOG_{limit}_SECONDS": "3"})
    wait_until(lambda: is_up(first), seconds=60, what=first)
    await stuck.send(20)
    await until_handled(stuck, read_topic, 20, seconds=20)

    stuck.flag.touch()
    assert first.wait(20) == EXIT_STATUS, first.text
    assert reason in first.text

    second = stuck.worker(WORKS)
    await stuck.send(25)
    await until_handled(stuck, read_topic, 25, seconds=40)
    second.send(signal.SIGTERM)
    assert second.wait(15) == 0, second.text


@pytest.mark.long
async def test_a_worker_waits_for_a_broker_that_is_frozen_for_longer_than_its_limits(
    new_cluster: Any, start: Any, records: Any, tmp_path: Path, wait_until: Any
) -> None:
    cluster = new_cluster()
    stuck = Stuck(cluster.address, start, tmp_path)
    names = ("BATCH", "FETCH", "GROUP")
    # An outage is known to be one after 15 s.
    worker = stuck.worker(WORKS, **{f"AIOPYPE_WATCHDOG_{name}_SECONDS": "20" for name in names})
    wait_until(lambda: is_up(worker), seconds=60, what=worker)
    await stuck.send(20)

    async def read(topic: str) -> Any:
        return await records(cluster.address, topic)

    await until_handled(stuck, read, 20, seconds=20)
    cluster.node.freeze(90)
    await stuck.send(25)

    await until_handled(stuck, read, 25, seconds=60)
    worker.send(signal.SIGTERM)
    assert worker.wait(15) == 0, worker.text
    assert "watchdog" not in worker.text


async def test_a_healthy_worker_is_left_alone_idle_or_not(
    stuck: Stuck, read_topic: Any, wait_until: Any
) -> None:
    names = ("LOOP", "BATCH", "FETCH", "GROUP")
    worker = stuck.worker(WORKS, **{f"AIOPYPE_WATCHDOG_{name}_SECONDS": "3" for name in names})
    wait_until(lambda: is_up(worker), seconds=60, what=worker)

    time.sleep(8)  # idle, more than twice as long as any limit
    await stuck.send(20)
    await until_handled(stuck, read_topic, 20, seconds=20)
    worker.send(signal.SIGTERM)

    assert worker.wait(15) == 0, worker.text
    assert "watchdog" not in worker.text


async def test_a_worker_that_was_frozen_for_longer_than_its_limits_goes_on(
    stuck: Stuck, read_topic: Any, wait_until: Any
) -> None:
    names = ("LOOP", "BATCH", "FETCH")
    worker = stuck.worker(WORKS, **{f"AIOPYPE_WATCHDOG_{name}_SECONDS": "3" for name in names})
    wait_until(lambda: is_up(worker), seconds=60, what=worker)

    worker.send(signal.SIGSTOP)
    time.sleep(8)
    worker.send(signal.SIGCONT)
    await stuck.send(20)

    await until_handled(stuck, read_topic, 20, seconds=40)
    worker.send(signal.SIGTERM)
    assert worker.wait(15) == 0, worker.text
    assert "watchdog" not in worker.text
