"""The metrics of one worker, in a form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
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
