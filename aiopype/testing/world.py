"""Where a flow under test is run: in process or on Kafka, what a run needs of it is the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from aiopype.clock import Clock
from aiopype.pipelines import Pipelines
from aiopype.source import Source

__all__ = ["World"]


class World(Protocol):
    """Where a flow is run.

    Attributes:
        clock: of the sources.
        patience_seconds: for whatever a test waits for, in real time.
        pipelines: the managers, after `start`.
    """

    clock: Clock
    patience_seconds: float
    pipelines: Pipelines

    async def start(self, run_source: Callable[[Source], Awaitable[None]]) -> None:
        """Build the managers and let their sources come to `run_source`."""

    async def stop(self) -> None:
        """Stop; what is durable stays for another `start`."""

    async def settle(self) -> None:
        """Wait until everything that was emitted is handled."""

    async def step(self, until: Callable[[], object]) -> None:
        """Let something happen, no more than it takes; raise what the flow has ended with."""
