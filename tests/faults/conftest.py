"""A pipeline under load, and the count of what came out of it, made from outside."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

PROGRAM = """
    import os
    from aiopype import AsyncFlow, Manager, Processor

    class First(Processor):
        def forward(self, key, n):
            self.emit("mid", key, n)

    class Last(Processor):
        events = ("out",)

        async def finish(self, key, n):
            self.emit("out", key, n)

    class Load(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            self.inlet = Processor(self.build_processor_name("inlet"), handler)
            self.first = First(self.build_processor_name("first"), handler)
            self.last = Last(self.build_processor_name("last"), handler)
            self.inlet.on("in", self.first.forward)
            self.first.on("mid", self.last.finish)

    class Config:
        FLOWS = [os.environ["NAME"]]

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

    if __name__ == "__main__":
        dataflow.start()
"""

KEYS = 64
PARTITIONS = 4


class Load:
    """Events of 64 keys, numbered per key, in the first topic; what is in the last one."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.name = f"load{uuid.uuid4().hex[:8]}"
        self.program = PROGRAM
        self.env = {"NAME": self.name, "AIOPYPE_BROKER": address}

    async def fill(self, count: int) -> None:
        """Write `count` events, all before a worker reads them."""
        await self.create()
        async with AIOKafkaProducer(
            bootstrap_servers=self.address, linger_ms=20, max_batch_size=262_144
        ) as producer:
            for n in range(count):
                topic, value, key = self.event(n)
                await producer.send(topic, value, key=key)

    async def feed(self, stopping: asyncio.Event, per_second: int) -> int:
        """Write so many events a second until told to stop; return how many they were."""
        count = 0
        async with AIOKafkaProducer(
            bootstrap_servers=self.address, enable_idempotence=True
        ) as producer:
            while not stopping.is_set():
                for _ in range(per_second // 20):
                    topic, value, key = self.event(count)
                    await producer.send(topic, value, key=key)
                    count += 1
                await asyncio.sleep(0.05)
            await producer.flush()
        return count

    def event(self, number: int) -> tuple[str, bytes, bytes]:
        """The event of this number: topic, value, key."""
        key = number % KEYS
        return f"{self.name}.inlet.in", json.dumps([key, number // KEYS]).encode(), b"%d" % key

    async def create(self) -> None:
        """Make the topics."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        topics = [f"{self.name}.inlet.in", f"{self.name}.first.mid", f"{self.name}.last.out"]
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics])
        await admin.close()

    async def ends(self) -> int:
        """How many records the last topic has."""
        from aiokafka import AIOKafkaConsumer  # noqa: PLC0415

        consumer = AIOKafkaConsumer(bootstrap_servers=self.address)
        await consumer.start()
        try:
            topic = f"{self.name}.last.out"
            partitions = [TopicPartition(topic, n) for n in range(PARTITIONS)]
            return sum((await consumer.end_offsets(partitions)).values())
        finally:
            await consumer.stop()


class Account:
    """What came out: per key the numbers in order."""

    def __init__(self, records: list[Any]) -> None:
        self.by_key: dict[int, list[int]] = defaultdict(list)
        for record in records:
            key, number = json.loads(record.value)
            self.by_key[key].append(number)
        self.total = len(records)

    @property
    def distinct(self) -> int:
        return sum(len(set(numbers)) for numbers in self.by_key.values())

    @property
    def repeated(self) -> int:
        return self.total - self.distinct

    @property
    def out_of_order(self) -> list[tuple[int, int, int]]:
        """Places where a key's number comes before one that is lower: key, highest yet, number.

        At least once, what came may come again, also from a worker that was frozen meanwhile; but
        nothing overtakes: each number comes for the first time after all lower ones.
        """
        wrong = []
        for key, numbers in self.by_key.items():
            highest = -1
            for number in numbers:
                if number > highest + 1:
                    wrong.append((key, highest, number))
                highest = max(highest, number)
        return wrong


@pytest.fixture
def load(kafka: str) -> Load:
    return Load(kafka)


@pytest.fixture
def account(load: Load, read_topic: Callable[[str], Any]) -> Callable[[], Any]:
    async def make() -> Account:
        return Account(await read_topic(f"{load.name}.last.out"))

    return make
