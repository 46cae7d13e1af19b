"""Topics as their files say, against a real broker: made, named, compared."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

pytestmark = pytest.mark.kafka

PIPELINE = """
    import os
    from aiopype import AsyncFlow, Manager, Processor, Source

    class Numbers(Source):
        async def start(self):
            for n in range(3):
                await self.emit_async("number", n, key=str(n))

    class Step(Processor):
        def handle(self, n):
            self.emit("done", n)
            self.emit("unforeseen", n)

    class Sink(Processor):
        def take(self, n):
            print("took", n)

    class Line(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.step = Step(self.build_processor_name("step"), handler)
            self.sink = Sink(self.build_processor_name("sink"), handler)
            self.source.on("number", self.step.handle)
            self.step.on("done", self.sink.take)

    class Config:
        FLOWS = [os.environ["NAME"]]
        NAME = os.environ["NAME"] + "-flow"

    dataflow = AsyncFlow(Config())

    if __name__ == "__main__":
        dataflow.start()
"""


class Topics:
    """A broker's topics, as its own clients see them."""

    def __init__(self, client: AIOKafkaAdminClient) -> None:
        self._client = client

    async def create(self, name: str, partitions: int, configs: dict[str, str]) -> None:
        await self._client.create_topics([NewTopic(name, partitions, 1, None, configs)])

    async def names(self) -> set[str]:
        return set(await self._client.list_topics())

    async def partitions(self, name: str) -> int:
        (topic,) = await self._client.describe_topics([name])
        return len(topic["partitions"])

    async def configs(self, name: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, name)
        ((answer,),) = [a.resources for a in await self._client.describe_configs([resource])]
        return {key: value for key, value, *_ in answer[4]}


@pytest.fixture
async def topics(kafka: str) -> Any:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    yield Topics(client)
    await client.close()


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write the file of a manager's topics beside the flow's file."""

    def write_file(manager: str, text: str) -> Path:
        (tmp_path / "topics").mkdir(exist_ok=True)
        file = tmp_path / "topics" / f"{manager}.toml"
        file.write_text(text)
        return file

    return write_file


def run_until_taken(program: Any, wait_until: Any) -> None:
    wait_until(lambda: program.text.count("took") == 3, what=program)
    program.send(signal.SIGTERM)
    assert program.wait(15) == 0


async def test_topics_are_made_as_their_file_says(
    kafka: str, start: Any, wait_until: Any, write: Any, topics: Topics, read_topic: Any
) -> None:
    write(
        "made",
        """
        [defaults]
        partitions = 2
        retention = "12h"

        ["source.number"]
        partitions = 3
        cleanup = "compact,delete"
        retention_bytes = "1 GiB"
        config = { "max.message.bytes" = 2000000 }

        ["step.done"]
        name = "orders.paid"

        ["sink.later"]
        retention = "forever"
        """,
    )
    run_until_taken(start(PIPELINE, AIOPYPE_BROKER=kafka, NAME="made"), wait_until)

    assert await topics.partitions("made.source.number") == 3
    configs = await topics.configs("made.source.number")
    assert configs["retention.ms"] == str(12 * 3_600_000)
    assert configs["retention.bytes"] == str(2**30)
    assert set(configs["cleanup.policy"].split(",")) == {"compact", "delete"}
    assert configs["max.message.bytes"] == "2000000"
    # Another name on the wire; an event that nobody knew before has the defaults; one that only
    # the file names is there.
    assert sorted(json.loads(r.value)[0] for r in await read_topic("orders.paid")) == [0, 1, 2]
    assert "made.step.done" not in await topics.names()
    assert await topics.partitions("made.step.unforeseen") == 2
    assert (await topics.configs("made.sink.later"))["retention.ms"] == "-1"


async def test_a_namespace_goes_in_front_of_every_topic_and_group(
    kafka: str, start: Any, wait_until: Any, topics: Topics, read_topic: Any, committed: Any
) -> None:
    program = start(PIPELINE, AIOPYPE_BROKER=kafka, NAME="spaced", AIOPYPE_NAMESPACE="team.a")
    run_until_taken(program, wait_until)

    ours = {name for name in await topics.names() if "spaced" in name}
    assert all(name.startswith("team.a.spaced") for name in ours)
    assert ours >= {
        "team.a.spaced-flow.sources",
        "team.a.spaced.source.number",
        "team.a.spaced.step.done",
        "team.a.spaced.step.unforeseen",
    }
    records = await read_topic("team.a.spaced.source.number")
    assert len(records) == 3
    offsets = await committed("team.a.spaced-flow", "team.a.spaced.source.number")
    # Behind each record is the marker of the source's transaction.
    assert all((offsets[record.partition] or 0) > record.offset for record in records)


async def test_an_existing_topic_that_differs_is_reported_and_left_alone(
    kafka: str, start: Any, wait_until: Any, write: Any, topics: Topics
) -> None:
    await topics.create("differs.source.number", 1, {"retention.ms": "1000000"})
    await topics.create("differs.step.done", 2, {})
    file = write(
        "differs",
        '["source.number"]\npartitions = 4\nretention = "7d"\n["step.done"]\npartitions = 2\n',
    )
    program = start(PIPELINE, AIOPYPE_BROKER=kafka, NAME="differs")
    run_until_taken(program, wait_until)

    (line,) = [line for line in program.text.splitlines() if "differs from" in line]
    assert "WARN" in line
    assert f"topic differs.source.number differs from {file}" in line
    assert "it has 1 partitions, not 4" in line
    assert "retention.ms is 1000000, not 604800000" in line
    assert f"kafka-topics.sh --bootstrap-server {kafka} --alter" in line
    assert await topics.partitions("differs.source.number") == 1
    assert (await topics.configs("differs.source.number"))["retention.ms"] == "1000000"


async def test_a_topic_that_cannot_be_made_ends_the_worker(
    kafka: str, start: Any, write: Any
) -> None:
    write("refused", "[defaults]\nreplication = 3\n")
    command = ("-m", "aiopype", "run", "program.py", "--broker", kafka)
    program = start(PIPELINE, command=command, NAME="refused")

    assert await asyncio.to_thread(program.wait, 30) == 1
    last = program.text.splitlines()[-1]
    assert last.startswith("Error: topic 'refused.")
    assert "cannot be created: " in last
    assert "refused.toml" in last
    assert "Traceback" not in program.text


def test_a_broker_that_is_not_there_ends_the_worker_in_a_line(start: Any) -> None:
    command = ("-m", "aiopype", "run", "program.py", "--broker", "127.0.0.1:1")
    program = start(PIPELINE, command=command, NAME="lonely")

    assert program.wait(30) == 1
    assert "Error: no Kafka broker answers at 127.0.0.1:1" in program.text
    assert "Traceback" not in program.text


def test_a_file_that_says_what_is_not_known_starts_nothing(start: Any, write: Any) -> None:
    file = write("mistyped", '["step.done"]\npartitons = 4\n')
    command = ("-m", "aiopype", "run", "program.py")
    program = start(PIPELINE, command=command, NAME="mistyped")

    assert program.wait(30) == 1
    assert f'{file}: ["step.done"] partitons is not known; did you mean partitions?' in program.text
