"""Metrics: collectors that read, when Prometheus asks, what the worker knows anyway.

An event costs nothing here: all is kept a batch at a time (`progress`, `supervision`).
`definitions` has the name and meaning of each, `collectors` what fills them, `exposition` what a
scrape gets.
"""

from aiopype.metrics.collectors import EventCollector, StateCollector
from aiopype.metrics.exposition import Metrics

__all__ = ["EventCollector", "Metrics", "StateCollector"]
