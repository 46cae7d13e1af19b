"""Metrics: collectors that read, when Prometheus asks, what the worker knows anyway.

An event costs nothing here: all is kept a batch at a time (`progress`, `figures`, `supervision`).
`definitions` has the name and meaning of each; what fills them is `collectors` (managers, events
and handlers), `partitions`, `brokers` and `process`, by way of `families`; `exposition` is what a
scrape gets.
"""

from aiopype.metrics.brokers import BrokerCollector
from aiopype.metrics.collectors import EventCollector, StateCollector, SubscriptionCollector
from aiopype.metrics.exposition import Metrics
from aiopype.metrics.partitions import PartitionCollector
from aiopype.metrics.process import ProcessFigures, WorkerCollector

__all__ = [
    "BrokerCollector",
    "EventCollector",
    "Metrics",
    "PartitionCollector",
    "ProcessFigures",
    "StateCollector",
    "SubscriptionCollector",
    "WorkerCollector",
]
