"""Counts from outside what a flow lost, repeated and put out of order, and when events flow.

    python -m tests.faults.checker BROKER NAME --count 30000 --rate 1000

feeds a flow whose manager is NAME (`load.PROGRAM` with NAME in its environment) and says what
came out of it. The truth is in the topics: nothing is asked of a worker.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from .background import Background
from .load import KEYS, PARTITIONS, AdminClient, Load

__all__ = ["Checker", "Counts"]

#: Longer than any broker here is away: what was fed has to arrive.
FEED_SECONDS = 300.0

#: Between two writes of the feeder.
BEAT_SECONDS = 0.05


class Counts:
    """What came out, counted as it comes; it keeps only what is still missing."""

    def __init__(self) -> None:
        self.total = 0
        self.repeated = 0
        self.out_of_order = 0
        self.foreign = 0
        #: Per partition, when the newest event that came out of it was fed; ms since 1970.
        self.newest: dict[int, int] = dict.fromkeys(range(PARTITIONS), 0)
        self._next: dict[int, int] = defaultdict(int)
        self._missing: dict[int, set[int]] = defaultdict(set)

    def add(self, record: Any) -> None:
        """Count a record of the last topic."""
        self.newest[record.partition] = max(self.newest[record.partition], record.timestamp)
        try:
            key, number = json.loads(record.value)
            self.add_number(key, number)
        except (ValueError, TypeError, KeyError, RecursionError):
            self.foreign += 1

    def add_number(self, key: int, number: int) -> None:
        """Count one number of a key.

        What came may come again; but nothing overtakes: each number comes for the first time
        after all lower ones of its key.
        """
        if key not in range(KEYS):
            raise KeyError(key)
        self.total += 1
        expected = self._next[key]
        if number >= expected:
            self._missing[key].update(range(expected, number))
            self._next[key] = number + 1
        elif number in self._missing[key]:
            self._missing[key].remove(number)
            self.out_of_order += 1
        else:
            self.repeated += 1

    @property
    def distinct(self) -> int:
        """How many of the events that were fed came out."""
        return self.total - self.repeated

    def has(self, key: int, number: int) -> bool:
        """Whether this number came out."""
        return number < self._next[key] and number not in self._missing[key]


class Checker:
    """Feeds a flow at a steady rate and counts what comes out, on a thread of its own.

    Arguments:
        load: the flow; its topics are made here.
        configs: settings of the topics, as for `Load.create`.
    """

    def __init__(self, load: Load, **configs: dict[str, str]) -> None:
        self.load = load
        self.counts = Counts()
        self.fed = 0
        self.letters: list[dict[str, Any]] = []
        self._stopping = asyncio.Event()
        self._background = Background("checker")
        self._feeding: Any = None
        self._background.run(load.create(**configs))
        self._reader = self._background.run(self._open(load.out, "read_committed"))
        self._reading = self._background.spawn(self._read())

    def feed(self, per_second: int, count: int | None = None) -> None:
        """Write so many events a second, until `count` are written or it is told to stop."""
        self._feeding = self._background.spawn(self._feed(per_second, count))

    def fill(self, count: int) -> None:
        """Write `count` events as fast as it goes, and return when they are there."""
        self._background.run(self._feed(count, count))

    def stop_feeding(self) -> int:
        """Return how many events were fed, when all of them are acknowledged."""
        if self._feeding is not None:
            self._background.loop.call_soon_threadsafe(self._stopping.set)
            self._feeding.result(FEED_SECONDS)
        return self.fed

    def wait_fed(self, seconds: float) -> None:
        """Wait until the last event of a fixed number is acknowledged."""
        self._feeding.result(seconds)

    def flows_since(self, moment: float) -> bool:
        """Whether every partition has given out an event that was fed after this moment."""
        self._check()
        return min(self.counts.newest.values()) >= moment * 1000

    def lost(self) -> int:
        """How many of the events fed so far have not come out, and are no dead letters."""
        self._check()
        return self.fed - self.counts.distinct - self.dead

    @property
    def dead(self) -> int:
        """How many of the events fed are dead letters and nothing else, as last read."""
        found = set()
        for letter in self.letters:
            try:
                key, number = json.loads(base64.b64decode(letter["value"]))
                if isinstance(key, int) and isinstance(number, int):
                    found.add((key, number))
            except (ValueError, TypeError, KeyError, RecursionError):
                continue  # no event of ours
        return sum(not self.counts.has(*number) for number in found)

    def read_letters(self) -> list[dict[str, Any]]:
        """Read what the flow's error topics hold now."""

        async def read() -> list[dict[str, Any]]:
            async with AdminClient(self.load.address) as admin:
                topics = await admin.list_topics()
            start = f"{self.load.name}."
            errors = [t for t in topics if t.startswith(start) and t.endswith(".error")]
            return [
                json.loads(record.value)
                for topic in errors
                async for record in self._all(topic, "read_committed")
            ]

        self.letters = self._background.run(read())
        return self.letters

    def settle(self, seconds: float = 60.0) -> None:
        """Wait until all that the last topic has is counted; nobody may write to it any more."""

        async def catch_up() -> None:
            partitions = list(self._reader.assignment())
            ends = await self._reader.end_offsets(partitions)
            for partition, end in ends.items():
                while await self._reader.position(partition) < end:
                    await asyncio.sleep(0.05)

        self._background.run(catch_up(), seconds)

    def aborted(self) -> int:
        """How many records of the last topic only a reader of uncommitted ones sees."""

        async def count() -> int:
            return len([1 async for _ in self._all(self.load.out, "read_uncommitted")])

        seen = self.counts.total + self.counts.foreign
        return int(self._background.run(count(), 60 + seen / 5_000)) - seen

    def run(self, work: Any) -> Any:
        """Have some other work done on the checker's loop."""
        return self._background.run(work)

    def close(self) -> None:
        """Stop everything."""
        self._background.loop.call_soon_threadsafe(self._stopping.set)
        self._background.close()

    def _check(self) -> None:
        for future in (self._reading, self._feeding):
            if future is not None and future.done():
                future.result()

    async def _feed(self, per_second: int, count: int | None) -> None:
        share = max(1, round(per_second * BEAT_SECONDS))
        async with AIOKafkaProducer(
            bootstrap_servers=self.load.address,
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=262_144,
            request_timeout_ms=int(FEED_SECONDS * 1000),
            metadata_max_age_ms=5_000,
        ) as producer:
            sent: list[asyncio.Future[Any]] = []
            due = time.monotonic()
            while not self._stopping.is_set() and (count is None or self.fed < count):
                for _ in range(share if count is None else min(share, count - self.fed)):
                    topic, value, key = self.load.event(self.fed)
                    sent.append(await producer.send(topic, value, key=key))
                    self.fed += 1
                sent = [future for future in sent if not (future.done() and future.result())]
                due = max(due + BEAT_SECONDS, time.monotonic() - 1.0)
                await asyncio.sleep(due - time.monotonic())
            await asyncio.gather(*sent)

    async def _read(self) -> None:
        try:
            while True:
                try:
                    found = await self._reader.getmany(timeout_ms=200)
                except KafkaError:
                    await asyncio.sleep(0.2)  # a broker is away
                    continue
                for records in found.values():
                    for record in records:
                        self.counts.add(record)
        finally:
            await self._reader.stop()

    async def _open(self, topic: str, isolation: str) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.load.address,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=isolation,
            fetch_max_wait_ms=100,
            metadata_max_age_ms=5_000,
        )
        await consumer.start()
        numbers = await consumer._client._wait_on_metadata(topic)
        consumer.assign([TopicPartition(topic, number) for number in numbers])
        return consumer

    async def _all(self, topic: str, isolation: str) -> AsyncIterator[Any]:
        consumer = await self._open(topic, isolation)
        try:
            ends = await consumer.end_offsets(list(consumer.assignment()))
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for found in (await consumer.getmany(timeout_ms=200)).values():
                    for record in found:
                        yield record
        finally:
            await consumer.stop()


def main(arguments: list[str] | None = None) -> int:
    """Feed a flow and print what was counted; the status is 1 when something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("broker", help="host:port,...")
    parser.add_argument("name", help="of the flow's manager")
    parser.add_argument("--count", type=int, default=30_000, help="events to feed")
    parser.add_argument("--rate", type=int, default=1_000, help="events a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="to wait for the last one")
    options = parser.parse_args(arguments)
    checker = Checker(Load(options.broker, name=options.name))
    checker.feed(options.rate, options.count)
    checker.wait_fed(options.count / options.rate + FEED_SECONDS)
    deadline = time.monotonic() + options.seconds
    while checker.lost() and time.monotonic() < deadline:
        time.sleep(0.5)
        checker.read_letters()
    counts = checker.counts
    print(
        f"{checker.fed} events: {checker.lost()} lost, {counts.repeated} repeated, "
        f"{counts.out_of_order} out of order, {checker.dead} dead letters"
    )
    status = int(checker.lost() > 0)
    checker.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
