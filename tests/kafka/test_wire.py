"""What lies in the topics: names, keys, values, partitions, timestamps."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

pytestmark = pytest.mark.kafka

PROGRAM = """
    from aiopype import AsyncFlow, Manager, Processor, Source

    class Quotes(Source):
        async def start(self):
            for n in range(8):
                await self.emit_async("quote", {"n": n}, key=f"k{n % 3}")
            await self.emit_async("plain", "a", 1)
            await self.emit_async("plain", "b", by="x")

    class Keeps(Processor):
        events = ("declared",)

        def keep(self, quote):
            self.emit("kept", quote["n"], quote)

    class Changes(Processor):
        def change(self, n, quote):
            self.emit("changed", quote, key=n)
            self.emit("undeclared", n)
            if n == 7:
                dataflow.stop()

    class Wire(Manager):
        name = "wire"

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Quotes(self.build_processor_name("source"), handler)
            self.keeps = Keeps(self.build_processor_name("keeps"), handler)
            self.changes = Changes(self.build_processor_name("changes"), handler)
            self.source.on("quote", self.keeps.keep)
            self.keeps.on("kept", self.changes.change)

    class Config:
        FLOWS = ["wire"]

    dataflow = AsyncFlow(Config(), name="wire-flow")

    if __name__ == "__main__":
        dataflow.start()
"""


async def test_topics_hold_what_the_design_says(kafka: str, start: Any, read_topic: Any) -> None:
    before = int(time.time() * 1000)
    program = start(PROGRAM, AIOPYPE_BROKER=kafka)
    assert program.wait(30) == 0
    after = int(time.time() * 1000)

    quotes = await read_topic("wire.source.quote")
    assert sorted(json.loads(r.value)["n"] for r in quotes) == list(range(8))
    assert {r.key for r in quotes} == {b"k0", b"k1", b"k2"}
    assert all(before <= r.timestamp <= after for r in quotes)

    plain = [(r.key, r.value, r.partition) for r in await read_topic("wire.source.plain")]
    assert [value for _, value, _ in plain] == [b'["a",1]', b'{"$args":["b"],"$kwargs":{"by":"x"}}']
    assert len({partition for _, _, partition in plain}) == 1
    assert {key for key, _, _ in plain} == {None}

    # The key goes along, with its partition and the moment the source saw the data.
    came = {json.loads(r.value)["n"]: (r.key, r.partition, r.timestamp) for r in quotes}
    kept = await read_topic("wire.keeps.kept")
    assert {json.loads(r.value)[0]: (r.key, r.partition, r.timestamp) for r in kept} == came

    # A key of its own decides the partition; an int is its decimal digits.
    changed = await read_topic("wire.changes.changed")
    assert {json.loads(r.value)["n"]: r.key for r in changed} == {n: b"%d" % n for n in range(8)}
    assert {json.loads(r.value)["n"]: r.timestamp for r in changed} == {
        n: timestamp for n, (_, _, timestamp) in came.items()
    }

    # A topic that is known only at its first emit is made then; a declared one at the start.
    assert sorted(json.loads(r.value)[0] for r in await read_topic("wire.changes.undeclared")) == [
        *range(8)
    ]
    assert await read_topic("wire.keeps.declared") == []


async def test_keys_go_to_the_partitions_where_kafkas_own_clients_put_them(
    kafka: str, read_topic: Any
) -> None:
    from aiokafka import AIOKafkaProducer  # noqa: PLC0415
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # noqa: PLC0415

    from aiopype.transport.outputs import partition_of  # noqa: PLC0415

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic("partitions", 7, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for n in range(50):
            await producer.send_and_wait("partitions", b"", key=b"key-%d" % n)
    for record in await read_topic("partitions"):
        assert record.partition == partition_of(record.key, 7)
