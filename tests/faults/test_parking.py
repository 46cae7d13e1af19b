"""Events that wait for their next try, while their worker is killed and their partition moves."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

pytestmark = [pytest.mark.kafka, pytest.mark.faults]

PROGRAM = """
    import os
    from pathlib import Path
    from aiopype import AsyncFlow, Manager, Processor, Retry

    class Calls(Processor):
        retry = Retry(tries=1000, seconds=600, last_delay_seconds=0.5)

        def handle(self, key, n):
            if key == 3 and not Path("repaired").exists():
                print("failed", n, flush=True)
                raise ConnectionError("the service of key 3 is down")
            self.emit("out", key, n)

    class Rests(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            self.inlet = Processor(self.build_processor_name("inlet"), handler)
            self.calls = Calls(self.build_processor_name("calls"), handler)
            self.inlet.on("in", self.calls.handle)

    class Config:
        FLOWS = [os.environ["NAME"]]

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

    if __name__ == "__main__":
        dataflow.start()
"""

KEYS, EACH = 8, 100


async def feed(load: Any) -> None:
    """Write numbered events of eight keys, of which one fails."""
    async with AIOKafkaProducer(bootstrap_servers=load.address) as producer:
        for n in range(EACH):
            for key in range(KEYS):
                value = json.dumps([key, n]).encode()
                await producer.send(f"{load.name}.inlet.in", value, key=b"%d" % key)


@pytest.fixture
def outputs(load: Any, records: Callable[..., Any]) -> Callable[[], Any]:
    """What has come out: the numbers of each key, in order."""

    async def read() -> dict[int, list[int]]:
        found: dict[int, list[int]] = {key: [] for key in range(KEYS)}
        for record in await records(load.address, f"{load.name}.calls.out"):
            key, n = json.loads(record.value)
            found[key].append(n)
        return found

    return read


async def until(condition: Callable[[], Any], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not true after {seconds:g} s"
        await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    "guarantee", ["exactly_once", pytest.param("at_least_once", marks=pytest.mark.long)]
)
async def test_a_key_in_trouble_waits_over_a_kill_and_a_change_of_owner_and_comes_out_in_order(
    load: Any, outputs: Any, start: Any, wait_until: Any, tmp_path: Any, guarantee: str
) -> None:
    env = {"NAME": load.name, "AIOPYPE_BROKER": load.address, "AIOPYPE_GUARANTEE": guarantee}
    first = start(PROGRAM, **env)
    wait_until(lambda: "is up on" in first.text, seconds=60, what=first)
    await feed(load)
    every = list(range(EACH))

    async def others_are_out() -> bool:
        return all(numbers == every for key, numbers in (await outputs()).items() if key != 3)

    await until(others_are_out)
    assert (await outputs())[3] == []
    wait_until(
        lambda: first.text.count("failed 0\n") > 5, what="the first is tried again and again"
    )

    first.send(signal.SIGKILL)
    first.wait(5)
    second = start(PROGRAM, **env)
    wait_until(lambda: "failed 0\n" in second.text, seconds=40, what=second)
    third = start(PROGRAM, **env)
    wait_until(lambda: "partitions assigned" in third.text, seconds=40, what=third)

    (tmp_path / "repaired").touch()

    async def all_is_out() -> bool:
        return len((await outputs())[3]) >= EACH

    await until(all_is_out)
    found = await outputs()
    assert found[3] == every
    if guarantee == "exactly_once":
        assert found == dict.fromkeys(range(KEYS), every)
    # Nobody tried an event before those of its key that came earlier.
    tried = [
        line for w in (first, second, third) for line in w.text.splitlines() if "failed" in line
    ]
    assert set(tried) == {"failed 0"}
    for worker in (second, third):
        worker.send(signal.SIGTERM)
        assert worker.wait(20) == 0
