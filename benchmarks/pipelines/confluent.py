"""A loop written by hand on confluent-kafka, a thread for each step: the yardstick."""

import threading
from collections.abc import Callable
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, Message, Producer

from benchmarks.workload import Job, parse, row

JOB = Job.from_environ()


def delivered(error: Any, message: Message) -> None:
    if error is not None:
        raise KafkaException(error)


def step(source: str, target: str, function: Callable[[Any], Any]) -> None:
    producer = Producer(
        {
            "bootstrap.servers": JOB.broker,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 200_000,
            "on_delivery": delivered,
            "delivery.report.only.error": True,
        }
    )
    consumer = Consumer(
        {
            "bootstrap.servers": JOB.broker,
            "group.id": f"{JOB.name}-{source}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([source])
    while True:
        messages = consumer.consume(2000, 0.01)
        if not messages:
            continue
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            value = orjson.dumps(function(orjson.loads(message.value())))
            producer.produce(target, value, key=message.key())
        producer.flush()
        consumer.commit(asynchronous=True)


if __name__ == "__main__":
    threading.Thread(target=step, args=(JOB.raw, JOB.price, parse), daemon=True).start()
    step(JOB.price, JOB.out, row)
