"""Faust, in its batches: the events of one are acknowledged when all that came of them is."""

import asyncio

import faust

from benchmarks.workload import PARTITIONS, Job, parse, row

JOB = Job.from_environ()
BATCH = 500
BATCH_SECONDS = 0.01

app = faust.App(
    JOB.name,
    broker=f"kafka://{JOB.broker}",
    store="memory://",
    web_enabled=False,
    topic_partitions=PARTITIONS,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    producer_acks=-1,
    producer_linger=0.005,
    producer_max_batch_size=262_144,
    value_serializer="json",
)
quotes = app.topic(JOB.raw)
prices = app.topic(JOB.price)
rows = app.topic(JOB.out)


@app.agent(quotes)
async def parse_quotes(stream: faust.Stream) -> None:
    async for events in stream.take_events(BATCH, within=BATCH_SECONDS):
        sent = [await prices.send(key=event.key, value=parse(event.value)) for event in events]
        await asyncio.gather(*sent)


@app.agent(prices)
async def write_rows(stream: faust.Stream) -> None:
    async for events in stream.take_events(BATCH, within=BATCH_SECONDS):
        sent = [await rows.send(key=event.key, value=row(event.value)) for event in events]
        await asyncio.gather(*sent)


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()
