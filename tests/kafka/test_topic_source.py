"""A topic that others write, through a flow: whatever they write, exactly once, never touched."""

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

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from aiopype.transport.outputs import partition_of

pytestmark = pytest.mark.kafka

#: A flow with a namespace, of which a foreign topic knows nothing.
PIPELINE = """
    import json, os, time
    from pathlib import Path
    from aiopype import AsyncFlow, Manager, PermanentError, Processor
    from aiopype.sources import TopicSource

    class Step(Processor):
        def handle(self, value):
            time.sleep(float(os.environ.get("SLOW", 0)))
            is_bad = isinstance(value, dict) and value.get("bad")
            if is_bad and not Path("repaired").exists():
                if value["bad"] == "later":
                    raise OSError("not now")
                raise PermanentError("bad")
            self.emit("done", value)

    class Line(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            options = json.loads(os.environ.get("OPTIONS", "{}"))
            self.source = TopicSource(
                self.build_processor_name("source"), handler, os.environ["TOPIC"], options
            )
            self.step = Step(self.build_processor_name("step"), handler)
            self.source.on("message", self.step.handle)

    class Config:
        FLOWS = [os.environ["NAME"]]
        NAMESPACE = "space"

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

    if __name__ == "__main__":
        dataflow.start()
"""

#: In which of a topic's partitions its own writers put a key: in none that Kafka would choose.
PARTITIONS = 4


def elsewhere(key: bytes) -> int:
    return (partition_of(key, PARTITIONS) + 1) % PARTITIONS


class Others:
    """Those who have and write a topic."""

    def __init__(self, brokers: str) -> None:
        self.brokers = brokers

    async def create(self, name: str, **configs: str) -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=self.brokers)
        await client.start()
        try:
            await client.create_topics([NewTopic(name, PARTITIONS, 1, None, configs)])
            while len((await client.describe_topics([name]))[0]["partitions"]) < PARTITIONS:
                await asyncio.sleep(0.05)
        finally:
            await client.close()

    async def look(self, name: str) -> tuple[set[str], dict[str, str]]:
        """Return the names of all topics, and what was set of one."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.brokers)
        await client.start()
        try:
            resource = ConfigResource(ConfigResourceType.TOPIC, name)
            ((answer,),) = [a.resources for a in await client.describe_configs([resource])]
            # 1: set of this topic, and not a default.
            found = {key: value for key, value, _, source, *_ in answer[4] if source == 1}
            return set(await client.list_topics()), found
        finally:
            await client.close()

    async def write(
        self,
        topic: str,
        records: list[tuple[bytes | None, bytes | None]],
        *,
        timestamp_ms: int | None = None,
        **options: Any,
    ) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.brokers, **options) as producer:
            written = [
                await producer.send(
                    topic,
                    value,
                    key,
                    0 if key is None else elsewhere(key),
                    timestamp_ms,
                    headers=[("from", b"elsewhere")],
                )
                for key, value in records
            ]
            await asyncio.gather(*written)


@pytest.fixture
def others(kafka: str) -> Others:
    return Others(kafka)


@pytest.fixture
def worker(kafka: str, start: Any, wait_until: Any) -> Callable[..., Any]:
    """Start a worker of the flow and wait until it is up."""

    def run(name: str, topic: str, **env: str) -> Any:
        program = start(PIPELINE, AIOPYPE_BROKER=kafka, NAME=name, TOPIC=topic, **env)
        if "wait" not in env.get("OPTIONS", ""):
            wait_until(lambda: f"flow {name}-flow is up" in program.text, what=program)
        return program

    return run


@pytest.fixture
def errors(kafka: str, tmp_path: Path) -> Callable[..., Any]:
    """Run `aiopype errors` on the program of `worker`."""

    def run(name: str, topic: str, *arguments: str) -> Any:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("AIOPYPE_")}
        environ |= {"AIOPYPE_BROKER": kafka, "NAME": name, "TOPIC": topic}
        command, *rest = arguments
        return subprocess.run(
            [sys.executable, "-m", "aiopype", "errors", command, "program.py", *rest],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def outputs(read_topic: Any) -> Callable[..., Any]:
    """What came of a flow, as soon as there are so many."""

    async def read(name: str, count: int, seconds: float = 60.0) -> list[Any]:
        deadline = time.monotonic() + seconds
        while len(found := await read_topic(f"space.{name}.step.done")) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count}"
            await asyncio.sleep(0.1)
        return list(found)

    return read


async def test_records_of_every_shape_come_once_under_their_keys(
    others: Others, worker: Any, outputs: Any
) -> None:
    await others.create("shapes")
    shapes = [{"a": 1}, [1, [2]], 3, 4.5, "five", True, None, {}, [], {"$args": [1]}]
    written = [(b"key-%d" % n, json.dumps(value).encode()) for n, value in enumerate(shapes)]
    for n, codec in enumerate((None, "gzip", "snappy", "lz4", "zstd")):
        await others.write("shapes", written[2 * n : 2 * n + 2], compression_type=codec)
    await others.write("shapes", [(None, b'"no key"'), (b"gone", None)])

    worker("shaped", "shapes")

    # An object of theirs with a name that we reserve comes, and cannot be emitted as it is.
    found = await outputs("shaped", len(shapes) - 1 + 2)
    values = {record.key: json.loads(record.value) for record in found}
    expected: dict[Any, Any] = {
        b"key-%d" % n: value if isinstance(value, dict) else [value]
        for n, value in enumerate(shapes[:-1])
    }
    assert values == expected | {None: ["no key"], b"gone": [None]}


async def test_a_key_decides_the_partition_and_the_time_is_ours(
    others: Others, worker: Any, outputs: Any
) -> None:
    far = 1_000 * 365 * 86_400_000
    await others.create("placed", **{"message.timestamp.after.max.ms": str(2 * far)})
    keys = [b"key-%d" % n for n in range(20)]
    await others.write("placed", [(key, b"1") for key in keys], timestamp_ms=1_000)
    now = int(time.time() * 1000)
    await others.write("placed", [(key, b"2") for key in keys], timestamp_ms=now + far)

    worker("places", "placed")

    found = await outputs("places", 40)
    assert {r.key: r.partition for r in found} == {k: partition_of(k, PARTITIONS) for k in keys}
    assert {r.key for r in found if r.partition == elsewhere(r.key)} == set()
    assert all(now - 1_000 <= r.timestamp <= now + 60_000 for r in found)
    for key in keys:
        assert [json.loads(r.value)[0] for r in found if r.key == key] == [1, 2]


async def test_each_record_is_handled_once_although_the_worker_is_killed(
    others: Others, worker: Any, outputs: Any, read_topic: Any, wait_until: Any
) -> None:
    await others.create("killed", **{"cleanup.policy": "compact"})
    count = 1_500
    written = [(b"key-%d" % n, b'{"n":%d}' % n) for n in range(count)]
    await others.write("killed", written)
    configs = (await others.look("killed"))[1]
    program = worker("kills", "killed", SLOW="0.001")
    await outputs("kills", 100)
    program.process.kill()
    program.wait(10)
    done = len(await read_topic("space.kills.step.done"))

    program = worker("kills", "killed", SLOW="0.001")
    await others.write("killed", [(b"late-%d" % n, b'{"n":%d}' % n) for n in range(100)])

    await outputs("kills", count + 100, 60)
    program.send(signal.SIGTERM)
    assert program.wait(20) == 0
    found = await read_topic("space.kills.step.done")
    assert 0 < done < count
    assert len(found) == len({record.key for record in found}) == count + 100
    names, after = await others.look("killed")
    assert after == configs
    assert not [name for name in names if name.startswith("killed.")]


async def test_what_cannot_be_decoded_or_fails_is_a_dead_letter_that_can_be_run_again(
    others: Others, worker: Any, errors: Any, outputs: Any, wait_until: Any, tmp_path: Path
) -> None:
    await others.create("faulty")
    garbage = [(b"nan", b"NaN"), (b"text", b"{broken"), (b"bytes", b"\xff\xfe"), (b"none", b"")]
    bad = [(b"bad-%d" % n, b'{"bad":true}') for n in range(8)]
    await others.write("faulty", [*garbage, *bad, (b"good", b'{"good":true}')])
    worker("faults", "faulty")
    assert [r.key for r in await outputs("faults", 1)] == [b"good"]

    def letters() -> list[Any]:
        result = errors("faults", "faulty", "list", "--json", "--limit", "100")
        return list(json.loads(result.stdout)["letters"])

    wait_until(lambda: len(letters()) == 12, what="twelve letters")
    assert [each["error"] for each in letters()].count("aiopype.errors.CodecError") == 4
    (tmp_path / "repaired").touch()

    result = await asyncio.to_thread(
        errors, "faults", "faulty", "replay", "--error", "*PermanentError", "--wait", "30"
    )

    assert "8 done" in result.stdout, result.stdout + result.stderr
    found = await outputs("faults", 9)
    assert {r.key: r.partition for r in found} == {
        key: partition_of(key, PARTITIONS) for key in [b"good", *(key for key, _ in bad)]
    }
    shown = errors("faults", "faulty", "show", letters()[0]["id"]).stdout
    assert "faulty[" in shown


async def test_an_event_that_waits_does_so_in_a_topic_of_the_flow(
    others: Others, worker: Any, outputs: Any, tmp_path: Path
) -> None:
    await others.create("waiting")
    await others.write("waiting", [(b"later", b'{"bad":"later"}'), (b"now", b'{"good":1}')])
    worker("waits", "waiting")
    assert [r.key for r in await outputs("waits", 1)] == [b"now"]
    name = "space.waits.source.message.parked"
    while name not in (found := (await others.look("waiting"))[0]):
        await asyncio.sleep(0.1)
    assert "waiting.parked" not in found

    (tmp_path / "repaired").touch()

    later = [r for r in await outputs("waits", 2, 60) if r.key == b"later"]
    assert [r.partition for r in later] == [partition_of(b"later", PARTITIONS)]


async def test_a_topic_that_does_not_exist_ends_the_worker_with_its_name_and_is_not_created(
    kafka: str, others: Others, start: Any
) -> None:
    began = time.monotonic()
    program = start(PIPELINE, AIOPYPE_BROKER=kafka, NAME="misses", TOPIC="nowhere")

    assert program.wait(30) != 0

    assert time.monotonic() - began < 30
    assert "topic 'nowhere', which 'misses.source' reads, does not exist" in program.text
    await others.create("somewhere")
    assert "nowhere" not in (await others.look("somewhere"))[0]


async def test_a_worker_waits_for_a_topic_that_is_still_to_be_made(
    others: Others, worker: Any, outputs: Any, wait_until: Any
) -> None:
    program = worker("patient", "tomorrow", OPTIONS='{"wait": true}')
    wait_until(lambda: "waiting for topic tomorrow" in program.text, what=program)
    await others.create("tomorrow")
    await others.write("tomorrow", [(b"k", b"1")])

    assert [r.value for r in await outputs("patient", 1)] == [b"[1]"]


def test_a_worker_that_waits_for_a_topic_ends_when_it_is_asked_to(
    worker: Any, wait_until: Any
) -> None:
    program = worker("ended", "never", OPTIONS='{"wait": true}')
    wait_until(lambda: "waiting for topic never" in program.text, what=program)

    program.send(signal.SIGTERM)

    assert program.wait(15) == 0, program.text


async def test_a_flow_that_begins_with_the_latest_passes_over_what_was_there_only_once(
    others: Others, worker: Any, outputs: Any, committed: Any
) -> None:
    await others.create("lately")
    keys = [b"key-%d" % n for n in range(8)]
    await others.write("lately", [(key, b'"old"') for key in keys])
    program = worker("latest", "lately", OPTIONS='{"begin": "latest"}')
    while None in (await committed("space.latest-flow", "lately")).values():
        await asyncio.sleep(0.1)
    program.process.kill()
    program.wait(10)

    await others.write("lately", [(key, b'"new"') for key in keys])
    worker("latest", "lately", OPTIONS='{"begin": "latest"}')

    found = await outputs("latest", len(keys))
    assert {r.value for r in found} == {b'["new"]'}
