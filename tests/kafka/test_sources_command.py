"""`aiopype sources` beside running workers: listed, paused, moved, restarted, put elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from aiopype.commands.flows import Connection
from aiopype.commands.owners import Owners
from aiopype.graph import Graph
from aiopype.transport.reading import Reader

pytestmark = pytest.mark.kafka

SOURCES = 4

#: Each source counts, from where it was: that is an upstream which can be read again.
PIPELINE = f"""
    import asyncio, os
    from aiopype import AsyncFlow, Manager, Source

    class Numbers(Source):
        events = ("number",)

        async def start(self):
            print("begins", self.name, self.position, flush=True)
            n = self.position or 0
            while True:
                n += 1
                self.checkpoint(n)
                await self.emit_async("number", n, self.epoch)
                await asyncio.sleep(float(os.environ.get("EVERY", 0.02)))

    class Line(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            for n in range({SOURCES}):
                Numbers(self.build_processor_name(f"s{{n}}"), handler)

    class Config:
        FLOWS = [os.environ["NAME"]]
        WEB_PORT = 0

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

    if __name__ == "__main__":
        dataflow.start()
"""


class Event(NamedTuple):
    number: int
    epoch: int


class Flow:
    """A flow of four sources, its workers and the commands about it."""

    def __init__(
        self, name: str, broker: str, folder: Path, start: Any, wait_until: Any, read: Any
    ) -> None:
        self.name = name
        self.folder = folder
        self.wait_until = wait_until
        self.workers: list[Any] = []
        self.env = {"AIOPYPE_BROKER": broker, "NAME": name}
        self._start = start
        self._read: Callable[[str], Awaitable[list[Any]]] = read

    def work(self, count: int = 1, **env: str) -> list[Any]:
        """Start workers, and wait until they are up."""
        new = [self._start(PIPELINE, **self.env, **env) for _ in range(count)]
        for each in new:
            self.wait_until(lambda w=each: "is up on" in w.text, seconds=60, what=each)
        self.workers += new
        return new

    def end(self) -> None:
        """Stop all workers."""
        for worker in self.workers:
            worker.send(signal.SIGTERM)
        for worker in self.workers:
            assert worker.wait(20) == 0
        self.workers.clear()

    def run(self, *words: str, status: int = 0, text: str | None = None) -> str:
        """Run `aiopype sources COMMAND program.py ...`; return what it said."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("AIOPYPE_")}
        command, *others = words
        result = subprocess.run(
            [sys.executable, "-m", "aiopype", "sources", command, "program.py", *others],
            cwd=self.folder, env={**environ, **self.env}, capture_output=True, text=True,
            timeout=60, check=False, input=text,
        )  # fmt: skip
        logs = "\n".join(worker.text[-2000:] for worker in self.workers)
        assert result.returncode == status, f"{result.stdout}{result.stderr}\n{logs}"
        return result.stdout + result.stderr

    def listed(self) -> dict[str, Any]:
        """What `list --json` tells, with the sources by their own names."""
        told: dict[str, Any] = json.loads(self.run("list", "--json"))
        told["sources"] = {s["source"].partition(".")[2]: s for s in told["sources"]}
        return told

    def owners(self) -> dict[str, str | None]:
        return {name: source["worker"] for name, source in self.listed()["sources"].items()}

    def spreads(self, *counts: int) -> None:
        """Wait until the sources are spread so, and each has begun."""

        async def is_spread() -> bool:
            names = tuple(f"{self.name}.s{n}" for n in range(SOURCES))
            address = self.env["AIOPYPE_BROKER"]
            connection = Connection(f"{self.name}-flow", address, {}, Graph(), (), names)
            async with Reader(address) as reader:
                told = await Owners(connection, reader).look()
            found = sorted((len(worker.sources) for worker in told.workers), reverse=True)
            states = {source.standing for source in told.sources.values()}
            return found == list(counts) and states <= {"running", "paused"}

        what = f"a spread of {counts}"
        self.wait_until(lambda: asyncio.run(is_spread()), seconds=30, what=what)

    def events(self, n: int) -> list[Event]:
        """What a source has emitted, in order."""
        return self.all_events(n)[n]

    def all_events(self, *numbers: int) -> dict[int, list[Event]]:
        """What sources have emitted, in order."""
        return asyncio.run(self._events(numbers))

    async def _events(self, numbers: tuple[int, ...]) -> dict[int, list[Event]]:
        topics = [self._read(f"{self.name}.s{n}.number") for n in numbers]
        found = zip(numbers, await asyncio.gather(*topics), strict=True)
        return {n: [Event(*json.loads(r.value)) for r in records] for n, records in found}

    def advances(self, *numbers: int, by: int = 5) -> None:
        """Wait until sources have emitted some events more."""
        before = {n: len(found) + by for n, found in self.all_events(*numbers).items()}

        def have_advanced() -> bool:
            return all(len(e) >= before[n] for n, e in self.all_events(*numbers).items())

        self.wait_until(have_advanced, what=f"events of {numbers}")

    def check(self) -> None:
        """No event is missing, none came twice, and no owner wrote after a later one."""
        for events in self.all_events(*range(SOURCES)).values():
            assert [event.number for event in events] == list(range(1, len(events) + 1))
            assert [event.epoch for event in events] == sorted(event.epoch for event in events)


@pytest.fixture
def new_flow(
    kafka: str, tmp_path: Path, start: Any, wait_until: Any, read_topic: Any
) -> Callable[[str], Flow]:
    """Make a flow of this name."""
    return lambda name: Flow(name, kafka, tmp_path, start, wait_until, read_topic)


def worker_of(program: Any) -> str:
    return f"{socket.gethostname()}:{program.pid}"


def test_sources_are_listed_and_moved_and_a_pin_holds(new_flow: Any) -> None:
    flow = new_flow("moved")
    one, two = flow.work(2)
    flow.spreads(2, 2)
    told = flow.listed()
    assert {worker["worker"] for worker in told["workers"]} == {worker_of(one), worker_of(two)}
    assert {source["state"] for source in told["sources"].values()} == {"running"}
    assert f"moved.s0  running  {told['sources']['s0']['worker']}" in flow.run("list")

    before = flow.owners()
    goal = worker_of(two if before["s0"] == worker_of(one) else one)
    said = flow.run("move", "moved.s0", goal)

    after = flow.owners()
    assert f"moved.s0  is on {goal}, pinned to {goal}" in said
    assert after == {**before, "s0": goal}
    flow.advances(0, 1, 2, 3)

    # One more worker shares the others; the pin holds.
    flow.work()
    flow.spreads(2, 1, 1)
    assert flow.owners()["s0"] == goal
    assert flow.listed()["sources"]["s0"]["pinned_to"] == goal
    assert "may run anywhere" in flow.run("move", "moved.s0", "--anywhere")
    assert flow.listed()["sources"]["s0"]["pinned_to"] is None
    flow.end()
    flow.check()


def test_all_sources_can_be_moved_to_one_worker_and_back(new_flow: Any) -> None:
    flow = new_flow("herded")
    one, two = flow.work(2)
    flow.spreads(2, 2)

    flow.run("move", "herded.*", worker_of(one))

    assert set(flow.owners().values()) == {worker_of(one)}
    assert "none, it stands by" in flow.run("list")
    flow.advances(0, 1, 2, 3)
    assert "there is no worker 'nowhere'" in flow.run("move", "herded.s0", "nowhere", status=1)
    flow.run("move", "herded.*", "--anywhere")
    flow.spreads(2, 2)
    assert worker_of(two) in flow.owners().values()
    flow.end()
    flow.check()


def test_a_pause_stands_over_a_restart_of_all_workers(new_flow: Any) -> None:
    flow = new_flow("paused")
    flow.work(2)
    flow.spreads(2, 2)

    said = flow.run("pause", "paused.s1", "paused.s2")

    still = {n: len(flow.events(n)) for n in (1, 2)}
    assert f"paused.s1  is paused at position {still[1]}" in said
    flow.end()
    flow.work(2)
    flow.advances(0, 3)
    states = {name: source["state"] for name, source in flow.listed()["sources"].items()}
    assert Counter(states.values()) == {"running": 2, "paused": 2}
    assert {n: len(flow.events(n)) for n in (1, 2)} == still
    assert "is paused at" in flow.run("pause", "paused.s1")

    said = flow.run("resume", "--all")

    assert said.count("runs on") == SOURCES
    flow.advances(0, 1, 2, 3)
    flow.end()
    flow.check()


def test_what_is_wished_without_a_worker_holds_when_there_is_one(new_flow: Any) -> None:
    flow = new_flow("early")
    flow._start(PIPELINE, command=("-c", ""), NAME="early").wait(10)
    assert flow.listed()["sources"]["s0"]["state"] == "never run"
    assert "no worker runs" in flow.run("list")

    assert "no worker that has it runs now" in flow.run("pause", "early.s0")
    flow.run("reset", "early.s1", "--position", "100", "--yes")
    assert "no worker of the flow runs" in flow.run("move", "early.s2", "host", status=1)

    flow.work()
    flow.advances(1, 2, 3)
    assert flow.events(0) == []
    assert flow.events(1)[0] == Event(101, 2)
    flow.run("resume", "early.s0")
    flow.advances(0)


def test_a_restart_goes_on_where_the_source_was(new_flow: Any) -> None:
    flow = new_flow("again")
    (worker,) = flow.work()
    flow.advances(0, 1, 2, 3)

    assert "again.s2  is started again on" in flow.run("restart", "again.s2")

    flow.wait_until(lambda: worker.text.count("begins again.s2") == 2, what=worker)
    assert worker.text.count("begins again.s1") == 1
    flow.advances(2)
    flow.end()
    flow.check()


@pytest.mark.parametrize("every", ["0.001", "3600"])
def test_a_running_owner_goes_on_from_where_it_is_put(new_flow: Any, every: str) -> None:
    flow = new_flow(f"put{every[0]}")
    (worker,) = flow.work(EVERY=every)
    flow.wait_until(lambda: all(flow.all_events(0, 1, 2, 3).values()), what="events of all")
    name = f"{flow.name}.s0"
    assert "Aborted" in flow.run("reset", name, "--beginning", text="n\n", status=1)

    # More often than what is taken for two flows of one name.
    for position in (1_000_000, 2_000_000, 3_000_000, 4_000_000):
        said = flow.run("reset", name, "--position", str(position), "--yes")
        assert f"{name}  goes on from there on {worker_of(worker)}" in said, worker.text

    flow.wait_until(lambda: flow.events(0)[-1].number > 4_000_000)
    events = flow.events(0)
    numbers = [event.number for event in events]
    assert numbers == sorted(numbers)  # nothing of before came after
    for position in (1_000_000, 2_000_000, 3_000_000, 4_000_000):
        assert position + 1 in numbers
    steps = [b - a for a, b in pairwise(numbers)]
    assert sum(step != 1 for step in steps) == 4
    assert [event.epoch for event in events] == sorted(event.epoch for event in events)
    assert flow.listed()["sources"]["s0"]["state"] == "running"
    flow.end()


async def test_looking_joins_no_group_and_creates_no_topic(kafka: str, new_flow: Any) -> None:
    flow = new_flow("nothing")
    flow._start(PIPELINE, command=("-c", ""), NAME="nothing").wait(10)

    await asyncio.to_thread(flow.run, "list")
    said = await asyncio.to_thread(flow.run, "pause", "nothing.S0", status=1)

    assert "there is no source 'nothing.S0'; did you mean nothing.s0?" in said
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        assert not [name for name in await admin.list_topics() if name.startswith("nothing")]
        groups = [group for group, *_ in await admin.list_consumer_groups()]
    finally:
        await admin.close()
    assert not [group for group in groups if group.startswith("nothing")]


def test_a_broker_that_does_not_answer_is_told(new_flow: Any) -> None:
    flow = new_flow("lonely")
    flow._start(PIPELINE, command=("-c", ""), NAME="lonely").wait(10)

    said = flow.run("list", "--broker", "127.0.0.1:1", status=1)

    assert "no Kafka broker answers at 127.0.0.1:1" in said
