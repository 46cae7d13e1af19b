"""The metrics of one worker, in a form that Prometheus reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["Metrics"]


class Metrics:
    """The metrics of one worker, in a registry of their own.

    Arguments:
        collectors: those it begins with.
    """

    def __init__(self, *collectors: Collector) -> None:
        self._registry = CollectorRegistry()
        for collector in collectors:
            self.add(collector)

    def add(self, collector: Collector) -> None:
        """Let a collector be asked at every scrape."""
        self._registry.register(collector)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics in a form that the client accepts, and its content type.

        Arguments:
            accept: the `Accept` header; Prometheus' own text form if it has nothing to say.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    async def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """Return what `text` returns; what is known is read at once, and written in a thread.

        Of a flow of 100 handlers there are 10,000 lines, which take 60 ms, most of them to write:
        too long for the event loop.
        """
        encode, content_type = choose_encoder(accept)
        found = _Read(list(self._registry.collect()))
        return await asyncio.to_thread(encode, found), content_type


class _Read(CollectorRegistry):
    """A registry of what was read already."""

    def __init__(self, metrics: list[Metric]) -> None:
        super().__init__()
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics
