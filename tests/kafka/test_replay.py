"""A recording that is played through a flow on Kafka."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from aiopype import Manager, Processor, Source
from aiopype.inputs import RawInput
from aiopype.recording import RecordingWriter
from aiopype.testing import Run, run_managers

pytestmark = pytest.mark.kafka

PROGRAM = """
    import os, time
    from aiopype import AsyncFlow, Manager, Processor, Source

    class Feed(Source):
        async def start(self):
            raise AssertionError("no source starts in a replay")

        async def take(self, raw):
            number = int(raw.data)
            self.emit("number", number, self.clock.time(), key=number % 5)
            if number % 7 == 0:
                await self.emit_async("seventh", number)

    class Step(Processor):
        def handle(self, number, at):
            self.emit("double", 2 * number)
            if os.environ.get("SLOW"):
                time.sleep(0.002)

    class Line(Manager):
        name = "line"

        def __init__(self, handler):
            super().__init__(handler)
            self.a = Feed(self.build_processor_name("a"), handler)
            self.b = Feed(self.build_processor_name("b"), handler)
            self.step = Step(self.build_processor_name("step"), handler)
            self.a.on("number", self.step.handle)
            self.b.on("number", self.step.handle)

    class Config:
        FLOWS = ["line"]

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"])
"""


def write(path: Path, count: int) -> Path:
    """Write a recording: inputs of two sources in turn, a hundredth of a second between two."""
    with RecordingWriter(path, "line", 0.0) as writer:
        for number in range(count):
            raw = RawInput("frame", b"%d" % number, 1_000.0 + number / 100)
            writer.write(f"line.{'ab'[number % 2]}", raw)
    return path


@pytest.fixture
def play(kafka: str, start: Any, tmp_path: Path) -> Any:
    """Starts `aiopype run --replay` over a recording of so many inputs; the flow is `name`."""

    def begin(name: str, count: int, *options: str, **env: str) -> Any:
        path = tmp_path / f"{count}.jsonl"
        if not path.exists():
            write(path, count)
        command = ("-m", "aiopype", "run", "program.py", "--broker", kafka, "--web-port", "0",
                   "--replay", str(path), *options)  # fmt: skip
        return start(PROGRAM, command=command, NAME=name, **env)

    return begin


async def topics_and_groups(address: str) -> tuple[set[str], set[str]]:
    client = AIOKafkaAdminClient(bootstrap_servers=address)
    await client.start()
    try:
        groups = {name for name, *_ in await client.list_consumer_groups()}
        return set(await client.list_topics()), groups
    finally:
        await client.close()


async def numbers(read_topic: Any, topic: str) -> list[int]:
    return sorted(json.loads(record.value)[0] for record in await read_topic(topic))


async def test_a_replay_ends_when_all_is_handled_and_touches_nothing_of_the_real_flow(
    kafka: str, play: Any, read_topic: Any
) -> None:
    topics, groups = await topics_and_groups(kafka)
    program = play("ends", 200, "--speed", "max", "--as", "ends")

    assert program.wait(60) == 0, program.text
    assert await numbers(read_topic, "replay.ends.line.a.number") == list(range(0, 200, 2))
    assert await numbers(read_topic, "replay.ends.line.b.number") == list(range(1, 200, 2))
    assert await numbers(read_topic, "replay.ends.line.step.double") == list(range(0, 400, 2))
    assert "the recording is through, and everything is handled" in program.text
    new_topics, new_groups = await topics_and_groups(kafka)
    added = (new_topics - topics) | (new_groups - groups)
    assert {name for name in added if not name.startswith(("replay.ends.", "__"))} == set()


@pytest.mark.long
async def test_a_replay_that_is_killed_goes_on_where_it_was(
    play: Any, read_topic: Any, wait_until: Any
) -> None:
    options = ("--speed", "1", "--as", "killed")
    program = play("killed", 600, *options)
    wait_until(lambda: "inputs are left" in program.text, seconds=30, what=program)
    for played in (30, 100):
        async with asyncio.timeout(30):
            while len(await numbers(read_topic, "replay.killed.line.a.number")) < played:
                assert program.process.poll() is None
        program.send(signal.SIGKILL)
        program.wait(10)
        program = play("killed", 600, *options)
        wait_until(lambda p=program: "inputs are left" in p.text, seconds=40, what=program)

    assert program.wait(60) == 0, program.text
    left = re.findall(r"(\d+) of its 300 inputs are left", program.text)
    assert left
    assert all(0 < int(number) < 300 for number in left)
    assert await numbers(read_topic, "replay.killed.line.a.number") == list(range(0, 600, 2))
    assert await numbers(read_topic, "replay.killed.line.b.number") == list(range(1, 600, 2))
    assert await numbers(read_topic, "replay.killed.line.a.seventh") == list(range(0, 600, 14))
    assert await numbers(read_topic, "replay.killed.line.step.double") == list(range(0, 1200, 2))


async def test_a_replay_that_is_through_is_played_anew_under_another_name_only(
    play: Any, read_topic: Any
) -> None:
    for name, again in (("one", False), ("one", True), ("two", False)):
        program = play("again", 50, "--speed", "max", "--as", f"again.{name}")
        assert program.wait(60) == 0, program.text
        assert ("--as NAME plays them anew" in program.text) == again

    for name in ("one", "two"):
        doubled = await numbers(read_topic, f"replay.again.{name}.line.step.double")
        assert doubled == list(range(0, 100, 2))


async def test_several_workers_share_a_replay_and_end_together(play: Any, read_topic: Any) -> None:
    program = play("shared", 1_000, "--speed", "2", "--as", "shared", "--workers", "2", SLOW="1")

    assert program.wait(90) == 0, program.text
    assert program.text.count("the recording is through") == 2, program.text
    assert await numbers(read_topic, "replay.shared.line.step.double") == list(range(0, 2000, 2))


def test_a_replay_that_is_stopped_ends_well_before_it_is_through(
    play: Any, wait_until: Any
) -> None:
    program = play("stopped", 6_000, "--as", "stopped")
    wait_until(lambda: "inputs are left" in program.text, seconds=30, what=program)

    program.send(signal.SIGTERM)

    assert program.wait(20) == 0
    assert "the recording is through" not in program.text


# --- the same each time


class Feed(Source):
    async def take(self, raw: RawInput) -> None:
        number = int(raw.data)
        if number % 50 == 13:
            raise ValueError(number)
        for key in range(number % 3):
            await self.emit_async("number", number, self.clock.time(), key=key)
        await self.emit_async("plain", number)


class Step(Processor):
    def handle(self, number: int, at: float) -> None:
        if number % 40 == 7:
            self.emit("odd", number)
        self.emit("double", 2 * number, at)

    async def count(self, number: int) -> None:
        self.emit("counted", number, key="all")


class Line(Manager):
    name = "line"

    def __init__(self, handler: Any) -> None:
        super().__init__(handler)
        self.a = Feed(self.build_processor_name("a"), handler)
        self.b = Feed(self.build_processor_name("b"), handler)
        self.step = Step(self.build_processor_name("step"), handler)
        self.other = Step(self.build_processor_name("other"), handler)
        for feed, step in ((self.a, self.step), (self.b, self.other)):
            feed.on("number", step.handle)
            feed.on("plain", step.count)


EVENTS = [
    *(f"line.{source}.{event}" for source in "ab" for event in ("number", "plain")),
    *(f"line.{s}.{event}" for s in ("step", "other") for event in ("double", "odd", "counted")),
]

_Logs = dict[Any, list[Any]]


def by_partition(run: Run) -> _Logs:
    logs: _Logs = defaultdict(list)
    for event in EVENTS:
        for record in run.records(event):
            logs[event, record.partition].append((record.key, record.value))
    return logs


def by_key(logs: _Logs) -> _Logs:
    found: _Logs = defaultdict(list)
    for (event, _), records in logs.items():
        for key, value in records:
            found[event, key].append(value)
    return found


async def test_the_same_recording_gives_the_same_events_in_the_same_order(
    kafka: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", 500)
    logs = []
    for broker in (None, None, kafka, kafka):
        async with run_managers(Line, broker=broker) as run:
            await run.replay(path)
            logs.append(by_partition(run))
            assert len(run.dead_letters) == 10

    in_process, in_process_again, on_kafka, on_kafka_again = logs
    assert in_process == in_process_again
    assert on_kafka == on_kafka_again
    assert len({partition for _, partition in on_kafka}) > 2
    assert sum(map(len, on_kafka.values())) > 1_000
    assert by_key(on_kafka) == by_key(in_process)
