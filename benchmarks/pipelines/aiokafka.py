"""A loop written by hand on aiokafka, with batches built by hand, a task for each step."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from benchmarks.workload import Job, parse, row

JOB = Job.from_environ()


async def step(
    producer: AIOKafkaProducer, source: str, target: str, function: Callable[[Any], Any]
) -> None:
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=JOB.broker,
        group_id=f"{JOB.name}-{source}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    while True:
        fetched = await consumer.getmany(timeout_ms=500, max_records=4000)
        sent = []
        for partition, records in fetched.items():
            sent += await send(producer, target, partition.partition, records, function)
        if sent:
            await asyncio.gather(*sent)
            await consumer.commit({p: r[-1].offset + 1 for p, r in fetched.items()})


async def send(
    producer: AIOKafkaProducer,
    target: str,
    partition: int,
    records: Iterable[ConsumerRecord],
    function: Callable[[Any], Any],
) -> list[asyncio.Future[Any]]:
    sent = []
    batch = producer.create_batch()
    for record in records:
        value = orjson.dumps(function(orjson.loads(record.value)))
        if batch.append(key=record.key, value=value, timestamp=None) is None:  # it is full
            sent.append(await producer.send_batch(batch, target, partition=partition))
            batch = producer.create_batch()
            batch.append(key=record.key, value=value, timestamp=None)
    sent.append(await producer.send_batch(batch, target, partition=partition))
    return sent


async def main() -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=JOB.broker,
        acks="all",
        enable_idempotence=True,
        max_batch_size=262_144,
    ) as producer:
        await asyncio.gather(
            step(producer, JOB.raw, JOB.price, parse), step(producer, JOB.price, JOB.out, row)
        )


if __name__ == "__main__":
    asyncio.run(main())
