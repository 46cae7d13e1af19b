"""Bytewax, with its recovery store, since its Kafka source keeps its offsets nowhere else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.workload import Job, parse, row

JOB = Job.from_environ()
DURABLE = {"acks": "all", "enable.idempotence": True}

flow = Dataflow(JOB.name)


def step(name: str, source: str, target: str, function: Callable[[Any], Any]) -> None:
    def convert(message: KafkaSourceMessage) -> KafkaSinkMessage:
        return KafkaSinkMessage(message.key, orjson.dumps(function(orjson.loads(message.value))))

    messages = kop.input(f"{name}_in", flow, brokers=[JOB.broker], topics=[source])
    converted = op.map(name, messages.oks, convert)
    kop.output(f"{name}_out", converted, brokers=[JOB.broker], topic=target, add_config=DURABLE)


if __name__ == "__main__":
    step("parse", JOB.raw, JOB.price, parse)
    step("row", JOB.price, JOB.out, row)
    store = Path("recovery")
    store.mkdir()
    init_db_dir(store, 1)
    cli_main(flow, recovery_config=RecoveryConfig(store))
