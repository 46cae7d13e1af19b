"""The records of a run: its topics, its input, how far it is, and what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import orjson
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from benchmarks.workload import PARTITIONS, Job, key, lines, quote

__all__ = ["Output", "Topics"]

#: The broker stamps what is appended: when a record arrived is known to the millisecond from the
#: record itself, whatever the pipeline is, and nobody has to read along while it works.
_CONFIG = {"message.timestamp.type": "LogAppendTime", "file.delete.delay.ms": "1000"}


@dataclass(frozen=True)
class Output:
    """What a pipeline wrote, read back whole. Times are Unix times, by the broker's stamps."""

    expected: int
    distinct: int
    """Rows that had to come, each counted once."""
    repeated: int
    """Rows that came again."""
    wrong: int
    """Rows that no event gives, or with another key than their event's."""
    disordered: int
    """Rows behind a later one of their key."""
    started: float
    """When the first price event arrived."""
    first: float
    """When the first row arrived."""
    last: float
    """When the last of the rows arrived that had to come."""

    @property
    def right(self) -> bool:
        """Whether every event has its row, and every row is right; one may come twice."""
        return self.distinct == self.expected and not self.wrong and not self.disordered

    @property
    def faults(self) -> str:
        """What is not as it should be, in words."""
        counts = {
            "missing": self.expected - self.distinct,
            "twice": self.repeated,
            "wrong": self.wrong,
            "out of order": self.disordered,
        }
        return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


class Topics:
    """The topics of one run, made before it and deleted after it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._admin = AdminClient({"bootstrap.servers": job.broker})

    def __enter__(self) -> Topics:
        names = (self.job.raw, self.job.price, self.job.out)
        new = [NewTopic(name, PARTITIONS, 1, config=_CONFIG) for name in names]
        for created in self._admin.create_topics(new).values():
            created.result()
        return self

    def __exit__(self, *_: object) -> None:
        """Delete these, and what the pipeline made beside them."""
        names = [name for name in self._admin.list_topics(timeout=10).topics if self._is_ours(name)]
        for deleted in self._admin.delete_topics(names).values():
            deleted.result()

    def write(self, count: int, value: Callable[[int], bytes] = quote) -> None:
        """Write the whole input, each event's value made from its index."""
        producer = Producer(
            {
                "bootstrap.servers": self.job.broker,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 20,
                "batch.num.messages": 10_000,
                "queue.buffering.max.messages": 1_000_000,
                "partitioner": "murmur2_random",  # Kafka's own
                "log_level": 3,  # not that the new broker is not quite ready, which it retries
            }
        )
        for index in range(count):
            producer.produce(self.job.raw, value(index), key=key(index))
            if index % 1000 == 0:
                producer.poll(0)
        if producer.flush(60):
            raise RuntimeError("writing the input: not acknowledged within 60 s")

    def rows(self) -> int:
        """How far the output is; to wait with, since markers of transactions count too."""
        found = self._admin.list_offsets(dict.fromkeys(self._partitions(), OffsetSpec.latest()))
        return sum(end.result().offset for end in found.values())

    def read(self, count: int) -> Output:
        """Read back the output of so many events, and check every row of it."""
        wanted = lines(count)
        times: dict[int, int] = {}
        newest: Counter[bytes] = Counter()
        repeated = wrong = disordered = 0
        for message in self._records():
            index = wanted.get(_line(message))
            if index is None or message.key() != key(index):
                wrong += 1
            elif index in times:
                repeated += 1
            else:
                times[index] = message.timestamp()[1]
                disordered += index < newest[message.key()]
                newest[message.key()] = index
        return Output(
            expected=count,
            distinct=len(times),
            repeated=repeated,
            wrong=wrong,
            disordered=disordered,
            started=self._first_price(),
            first=min(times.values(), default=0) / 1000,
            last=max(times.values(), default=0) / 1000,
        )

    def _is_ours(self, name: str) -> bool:
        return name.removeprefix("__").startswith((f"{self.job.name}.", f"{self.job.name}-"))

    def _partitions(self, topic: str | None = None) -> list[TopicPartition]:
        return [TopicPartition(topic or self.job.out, p) for p in range(PARTITIONS)]

    def _first_price(self) -> float:
        asked = dict.fromkeys(self._partitions(self.job.price), OffsetSpec.for_timestamp(0))
        found = [first.result() for first in self._admin.list_offsets(asked).values()]
        return min((f.timestamp for f in found if f.offset >= 0), default=0) / 1000

    def _records(self) -> Iterator[Message]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.job.broker,
                "group.id": "unused",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        starts = self._partitions()
        for start in starts:
            start.offset = OFFSET_BEGINNING
        consumer.assign(starts)
        unread = PARTITIONS
        while unread:
            for message in consumer.consume(10_000, 0.1):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread -= 1
                else:
                    raise KafkaException(error)
        consumer.close()


def _line(message: Message) -> str | None:
    try:
        return orjson.loads(message.value())["line"]
    except (ValueError, TypeError, KeyError):
        return None
