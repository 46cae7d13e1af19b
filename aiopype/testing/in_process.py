"""A flow under test in this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiopype.clock import Clock
from aiopype.pipelines import Pipelines
from aiopype.protocol.sync import SyncProtocol
from aiopype.source import Source
from aiopype.supervision import Supervisor
from aiopype.testing.clock import FakeClock
from aiopype.testing.seen import Record, Seen
from aiopype.topics import Topic

__all__ = ["InProcess"]

#: Between two looks at what comes of itself.
LOOK_SECONDS = 0.001


class InProcess:
    """Runs a flow on a SyncProtocol, all waiting being of a test's clock.

    Arguments:
        build: makes the managers for a protocol, with these options of `Pipelines`.
        clock: of the sources and of their restarts.
        seen: gets every event.
    """

    #: For whatever a test waits for.
    patience_seconds = 10.0

    def __init__(self, build: Callable[..., Pipelines], clock: Clock, seen: Seen) -> None:
        self._build = build
        self.clock = clock
        self._seen = seen
        self._positions: dict[str, bytes] = {}
        self.pipelines: Pipelines

    async def start(self, run_source: Callable[[Source], Awaitable[None]]) -> None:
        """Build the managers and let their sources come to `run_source`."""
        protocol = _Protocol(self._positions, self._seen)
        supervise: Any = Supervisor
        if isinstance(self.clock, FakeClock):
            clock = self.clock
            supervise = partial(
                Supervisor,
                clock=clock.monotonic,
                wall=clock.time,
                later=clock.call_later,
                jitter=lambda low, high: (low + high) / 2,
            )
        self.pipelines = self._build(protocol, supervise=supervise)
        self.pipelines.run_source = run_source
        for source in self.pipelines.sources.values():
            source.clock = self.clock
        self.pipelines.start_sources()

    async def stop(self) -> None:
        """Stop the sources."""
        self.pipelines.supervisor.stop()
        await self.pipelines.stop_sources()

    async def step(self, until: Callable[[], object]) -> None:
        """Let the clock go on to what is due next; if nothing is, wait for what is under way."""
        if not (isinstance(self.clock, FakeClock) and await self.clock.jump(unless=until)):
            await asyncio.sleep(LOOK_SECONDS)

    async def settle(self) -> None:
        """Return at once: what was emitted has run to its end."""


class _Protocol(SyncProtocol):
    """Tells every event, and does not wait before it calls a handler again.

    Arguments:
        positions: of the sources; they outlive this.
        seen: gets every event.
    """

    def __init__(self, positions: dict[str, bytes], seen: Seen) -> None:
        super().__init__(sleep=lambda seconds: None, sleep_async=lambda seconds: asyncio.sleep(0))
        self._positions = positions
        self._seen = seen

    def _enqueue(self, topic: Topic, record: Any, pending: deque[Any]) -> None:
        self._seen.add(topic.full_name, Record(record.key, record.value or b""))
        super()._enqueue(topic, record, pending)
