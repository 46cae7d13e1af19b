"""Quix Streams, at least once, which is its default."""

from quixstreams import Application

from benchmarks.workload import Job, parse, row

JOB = Job.from_environ()

if __name__ == "__main__":
    app = Application(
        broker_address=JOB.broker,
        consumer_group=JOB.name,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        loglevel="WARNING",
        producer_extra_config={"acks": "all", "enable.idempotence": True, "linger.ms": 5},
    )
    keys = {"key_deserializer": "bytes", "key_serializer": "bytes"}
    quotes = app.topic(JOB.raw, **keys)
    prices = app.topic(JOB.price, **keys)
    rows = app.topic(JOB.out, **keys)
    app.dataframe(quotes).apply(parse).to_topic(prices)
    app.dataframe(prices).apply(row).to_topic(rows)
    app.run()
