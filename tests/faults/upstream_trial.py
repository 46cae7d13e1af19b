"""A source that follows an upstream on one of two workers, and the ends of each of them."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from .topics import Topics
from .upstreams import Upstream
from .workers import SESSION_SECONDS, Workers

__all__ = ["FAILOVER_SECONDS", "UpstreamTrial"]

FAILOVER_SECONDS = SESSION_SECONDS + 5.0


class UpstreamTrial(ABC):
    """An upstream of numbered items, workers, and what is in their topics.

    Arguments:
        seed: of what is left to chance.
        upstream: what the source follows.
        workers: two of them are started.
        topics: made when these are up; it follows the source's.

    Attributes:
        faults: how many there were.
        seconds: the longest time from a fault's end to an item that was not there before.
    """

    def __init__(
        self, seed: int, upstream: Upstream, workers: Workers, topics: Callable[[], Topics]
    ) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.upstream = upstream
        self.workers = workers
        self.faults = 0
        self.seconds = 0.0
        workers.add(2)
        self.topics = topics()
        self.flows()
        self.seconds = 0.0

    @abstractmethod
    def newest(self) -> tuple[int, int]:
        """Return the number of the last item that came, and who wrote it; zeros for none."""

    def end_owner(self, how: str) -> None:
        """End the worker that runs the source; see `Workers.end`."""
        self.faults += 1
        _, pid = self.newest()
        self.workers.end(how, pid)

    def flows(self, within: float = FAILOVER_SECONDS) -> None:
        """Wait for an item that is not there yet: a fault has just ended."""
        began, last = time.time(), self.upstream.last
        self.until(lambda: self.newest()[0] > last, "items flow", within)
        self.seconds = max(self.seconds, time.time() - began)

    def until(
        self, condition: Callable[[], Any], what: str, seconds: float = FAILOVER_SECONDS
    ) -> None:
        """Wait for something that takes as long as a failover, if nothing else is said."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.workers.check()
            assert time.monotonic() < deadline, f"{what} (seed {self.seed}):\n{self.workers.text}"
            time.sleep(0.05)
