"""What stands in topics, as it comes."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from .background import Background
from .load import AdminClient
from .owners import Written

__all__ = ["Topics", "read"]


class Topics:
    """Follows topics from their beginning, as a reader of committed records; on its own thread.

    Arguments:
        address: of the broker.
        names: of topics that exist.

    Attributes:
        records: of each topic, those of a partition in order.
    """

    def __init__(self, address: str, *names: str) -> None:
        self.records: dict[str, list[Any]] = {name: [] for name in names}
        self._background = Background("topics")
        self._consumer = self._background.run(self._open(address))
        self._reading = self._background.spawn(self._read())

    def written(self, name: str) -> list[Written]:
        """What a source wrote that emits a number, its epoch and its process."""
        return [
            Written(*msgspec.json.decode(record.value), record.timestamp / 1000)
            for record in list(self.records[name])
        ]

    def last(self, name: str) -> Any:
        """The value of the last record."""
        return msgspec.json.decode(self.records[name][-1].value)

    def settle(self) -> None:
        """Wait until all that is there now has been read."""

        async def catch_up() -> None:
            ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
            for partition, end in ends.items():
                while await self._consumer.position(partition) < end:
                    await asyncio.sleep(0.05)

        self._background.run(catch_up())

    def close(self) -> None:
        """End it."""
        self._background.close()

    async def _open(self, address: str) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=address,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        found = [(name, await consumer._client._wait_on_metadata(name)) for name in self.records]
        consumer.assign([TopicPartition(name, n) for name, numbers in found for n in numbers])
        return consumer

    async def _read(self) -> None:
        try:
            while True:
                for found in (await self._consumer.getmany(timeout_ms=200)).values():
                    for record in found:
                        self.records[record.topic].append(record)
        finally:
            await self._consumer.stop()


def read(address: str, *names: str) -> dict[str, list[Any]]:
    """Return the records that topics have now; none of those that do not exist."""

    async def existing() -> set[str]:
        async with AdminClient(address) as admin:
            return set(await admin.list_topics())

    topics = Topics(address, *asyncio.run(existing()).intersection(names))
    topics.settle()
    topics.close()
    return {name: topics.records.get(name, []) for name in names}
