"""FastStream: a batch is acknowledged when all that came of it is."""

import asyncio
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage

from benchmarks.workload import Job, parse, row

JOB = Job.from_environ()
BATCH = {
    "batch": True,
    "max_records": 2000,
    "auto_offset_reset": "earliest",
    "ack_policy": AckPolicy.ACK,
}

broker = KafkaBroker(
    JOB.broker,
    acks="all",
    enable_idempotence=True,
    linger_ms=5,
    max_batch_size=262_144,
    logger=None,
)
app = FastStream(broker, logger=None)


@broker.subscriber(JOB.raw, group_id=f"{JOB.name}-parse", **BATCH)
async def parse_quotes(quotes: list[dict[str, Any]], message: KafkaMessage) -> None:
    sent = [
        await broker.publish(parse(quote), JOB.price, key=record.key, no_confirm=True)
        for quote, record in zip(quotes, message.raw_message, strict=True)
    ]
    await asyncio.gather(*sent)


@broker.subscriber(JOB.price, group_id=f"{JOB.name}-row", **BATCH)
async def write_rows(prices: list[dict[str, Any]], message: KafkaMessage) -> None:
    sent = [
        await broker.publish(row(price), JOB.out, key=record.key, no_confirm=True)
        for price, record in zip(prices, message.raw_message, strict=True)
    ]
    await asyncio.gather(*sent)


if __name__ == "__main__":
    asyncio.run(app.run())
