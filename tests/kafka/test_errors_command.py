"""`aiopype errors` beside running workers: listed, run again once, put aside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from aiopype import DeadLetter

pytestmark = pytest.mark.kafka

#: A handler that fails as long as a file does not exist, and for odd numbers only.
PIPELINE = """
    import os
    from pathlib import Path
    from aiopype import AsyncFlow, Manager, PermanentError, Processor, Source

    class Numbers(Source):
        async def start(self):
            for n in range(int(os.environ.get("COUNT", 0))):
                await self.emit_async("number", n, key=f"key-{n}")

    class Step(Processor):
        def handle(self, n):
            self.emit("done", n)
            if n % 2 and not Path("repaired").exists():
                raise PermanentError(f"cannot take {n}")
            print("handled", n)

    class Line(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.step = Step(self.build_processor_name("step"), handler)
            self.source.on("number", self.step.handle)

    class Config:
        FLOWS = [os.environ["NAME"]]

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

    if __name__ == "__main__":
        dataflow.start()
"""


@pytest.fixture
def errors(kafka: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `aiopype errors` on the program of `start`, in its folder."""

    def run(name: str, command: str, *arguments: str, **env: str) -> Any:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("AIOPYPE_")}
        environ |= {"AIOPYPE_BROKER": kafka, "NAME": name, **env}
        return subprocess.run(
            [sys.executable, "-m", "aiopype", "errors", command, "program.py", *arguments],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def listed(errors: Any) -> Callable[..., list[Any]]:
    """The letters of a flow, as `errors list --json` tells them."""

    def read(name: str, *arguments: str) -> list[Any]:
        result = errors(name, "list", "--json", *arguments)
        assert result.returncode == 0, result.stderr
        letters: list[Any] = json.loads(result.stdout)["letters"]
        return letters

    return read


@pytest.fixture
def send(kafka: str) -> Callable[..., Any]:
    """Write values to a topic; each with the key `k`."""

    async def write(topic: str, *values: bytes, **options: Any) -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=kafka, max_request_size=10_000_000, **options
        ) as producer:
            for value in values:
                await producer.send_and_wait(topic, value, b"k", partition=1)

    return write


def letter(name: str, n: int, **given: Any) -> bytes:
    """The letter of an event of `source` that `step` could not handle."""
    facts = {
        "component": f"{name}.step",
        "error": "ValueError",
        "message": f"cannot take {n}",
        "at_ms": int(time.time() * 1000),
        "tries": 10,
        "subscription": f"{name}.source.number -> {name}.step.handle",
        "topic": f"{name}.source.number",
        "partition": 1,
        "offset": n,
        "key": f"key-{n}".encode(),
        "value": b"[%d]" % n,
    }
    return msgspec.json.encode(DeadLetter(**facts | given))  # type: ignore[arg-type]


@pytest.fixture
def worker(kafka: str, start: Any, wait_until: Any) -> Callable[..., Any]:
    """Start a worker of the flow and wait until it is up."""

    def run(name: str, **env: str) -> Any:
        program = start(PIPELINE, AIOPYPE_BROKER=kafka, NAME=name, **env)
        wait_until(lambda: f"flow {name}-flow is up" in program.text, what=program)
        return program

    return run


async def outputs(read_topic: Any, name: str) -> list[tuple[bytes, int]]:
    """What `step` has emitted: key and number."""
    return [(r.key, json.loads(r.value)[0]) for r in await read_topic(f"{name}.step.done")]


def test_letters_are_listed_and_shown_while_a_worker_runs(
    worker: Any, send: Any, listed: Any, errors: Any
) -> None:
    worker("looked")
    asyncio.run(send("looked.step.error", letter("looked", 2), b"{garbage", letter("looked", 4)))

    found = listed("looked")

    assert [each["error"] for each in found].count("ValueError") == 2
    assert {each["id"] for each in found} == {f"looked.step:1:{n}" for n in range(3)}
    assert listed("looked", "--since", "1h", "--error", "ValueError", "--limit", "1")
    assert "not a dead letter" in errors("looked", "list").stdout
    shown = errors("looked", "show", "looked.step:1:0")
    assert "looked.source.number[1] offset 2" in shown.stdout
    assert errors("looked", "show", "looked.step:1:9").returncode == 1


async def test_a_replay_runs_once_and_is_marked(
    worker: Any, send: Any, listed: Any, errors: Any, read_topic: Any
) -> None:
    worker("once")
    await send("once.step.error", letter("once", 2), letter("once", 4))
    await asyncio.to_thread(errors, "once", "replay", "--all", "--dry-run")
    assert len(listed("once")) == 2

    first = await asyncio.to_thread(errors, "once", "replay", "once.step:1:0", "--wait", "30")
    second = await asyncio.to_thread(errors, "once", "replay", "--all", "--wait", "30")
    third = await asyncio.to_thread(errors, "once", "replay", "--all", "once.step:1:0")

    assert (first.returncode, second.returncode, third.returncode) == (0, 0, 2), first.stderr
    assert "once.step:1:0  done" in first.stdout
    assert "once.step:1:1  done" in second.stdout
    assert sorted(await outputs(read_topic, "once")) == [(b"key-2", 2), (b"key-4", 4)]
    assert listed("once") == []
    assert len(listed("once", "--state", "replayed")) == 2


async def test_what_fails_again_is_a_new_letter_and_leaves_nothing_else(
    worker: Any, send: Any, listed: Any, errors: Any, read_topic: Any, tmp_path: Path
) -> None:
    program = worker("twice")
    await send("twice.step.error", letter("twice", 3))

    result = await asyncio.to_thread(errors, "twice", "replay", "--all", "--wait", "30")

    assert result.returncode == 1
    assert "failed again: aiopype.errors.PermanentError: cannot take 3" in result.stdout
    (again,) = listed("twice")
    assert (again["replays"], again["tries"]) == (1, 11)
    assert "has failed again" in program.text

    (tmp_path / "repaired").touch()
    result = await asyncio.to_thread(errors, "twice", "replay", again["id"], "--wait", "30")
    assert result.returncode == 0
    assert await outputs(read_topic, "twice") == [(b"key-3", 3)]
    assert listed("twice") == []
    assert program.process.poll() is None


async def test_a_request_waits_for_a_worker(
    worker: Any, send: Any, errors: Any, read_topic: Any, wait_until: Any
) -> None:
    program = worker("waits")
    program.send(signal.SIGTERM)
    assert program.wait(20) == 0
    await send("waits.step.error", letter("waits", 2))

    result = await asyncio.to_thread(errors, "waits", "replay", "--all", "--wait", "0.5")

    assert result.returncode == 1
    assert "not done yet" in result.stdout
    program = worker("waits")
    wait_until(lambda: "handled 2" in program.text, what=program)


async def test_a_letter_that_was_cut_is_run_with_its_whole_original(
    worker: Any, send: Any, errors: Any, read_topic: Any
) -> None:
    program = worker("cut", COUNT="3")
    records = {}
    while len(records) < 3:
        records = {json.loads(r.value)[0]: r for r in await read_topic("cut.source.number")}
    origin = {"partition": records[2].partition, "offset": records[2].offset}
    cut = letter("cut", 2, value=b"[", value_bytes=3, is_cut=True, **origin)
    gone = letter("cut", 2, value=b"[", value_bytes=3, is_cut=True, offset=10_000)
    await send("cut.step.error", cut, gone)

    result = await asyncio.to_thread(
        errors, "cut", "replay", "cut.step:1:0", "cut.step:1:1", "--wait", "30"
    )

    assert "cut.step:1:0  done" in result.stdout, result.stdout + result.stderr
    assert "cut.step:1:1  refused: has only the beginning" in result.stdout
    assert program.text.count("handled 2") == 2  # as the event, and as the replay


def test_a_discarded_letter_is_not_run(worker: Any, send: Any, listed: Any, errors: Any) -> None:
    program = worker("aside")
    asyncio.run(send("aside.step.error", letter("aside", 2), b"{garbage"))

    assert errors("aside", "discard", "--all").returncode == 0
    assert "0 replayed" in errors("aside", "replay", "--all", "--wait", "10").stdout

    assert listed("aside") == []
    assert len(listed("aside", "--state", "discarded")) == 2
    assert "handled" not in program.text


def test_the_largest_letter_fits_into_a_request(worker: Any, send: Any, errors: Any) -> None:
    worker("large")
    large = letter("large", 2, value=b"[2" + b" " * 1_000_000 + b"]")
    asyncio.run(send("large.step.error", large))

    result = errors("large", "replay", "--all", "--wait", "30")

    assert "large.step:1:0  done" in result.stdout, result.stdout + result.stderr


async def test_commands_join_no_group_and_create_no_topic(
    kafka: str, start: Any, errors: Any
) -> None:
    start(PIPELINE, command=("-c", ""), NAME="nothing").wait(10)

    result = await asyncio.to_thread(errors, "nothing", "list")
    refused = await asyncio.to_thread(errors, "nothing", "discard", "nothing.step:0:0")

    assert (result.returncode, result.stdout) == (0, "no dead letters\n")
    assert refused.returncode == 1
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        assert not [name for name in await admin.list_topics() if name.startswith("nothing")]
        groups = [group for group, *_ in await admin.list_consumer_groups()]
    finally:
        await admin.close()
    assert "nothing-flow" not in groups


def test_a_broker_that_does_not_answer_is_told(start: Any, errors: Any) -> None:
    start(PIPELINE, command=("-c", ""), NAME="lonely").wait(10)

    result = errors("lonely", "list", "--broker", "127.0.0.1:1")

    assert result.returncode == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in result.stderr


async def test_a_failure_is_listed_run_again_and_its_output_is_there_once(
    worker: Any, listed: Any, errors: Any, read_topic: Any, wait_until: Any, tmp_path: Path
) -> None:
    """From the failing handler to the end, with nothing written by the test."""
    program = worker("whole", COUNT="6")
    wait_until(lambda: len(listed("whole")) == 3, seconds=40, what=program)
    assert {letter["message"] for letter in listed("whole")} == {
        f"cannot take {n}" for n in (1, 3, 5)
    }
    (tmp_path / "repaired").touch()

    result = await asyncio.to_thread(errors, "whole", "replay", "--all", "--wait", "30")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 done" in result.stdout
    assert sorted(await outputs(read_topic, "whole")) == [
        (f"key-{n}".encode(), n) for n in range(6)
    ]
    assert listed("whole") == []
    assert len(listed("whole", "--state", "replayed")) == 3
    program.send(signal.SIGTERM)
    assert program.wait(20) == 0
