"""A flow under test on a real Kafka, in a worker of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from aiopype import broker
from aiopype.clock import Clock
from aiopype.completion import Completion
from aiopype.pipelines import Pipelines
from aiopype.replays import is_replays
from aiopype.settings import Settings
from aiopype.source import Source
from aiopype.supervision import stop_task
from aiopype.testing.seen import Record, Seen
from aiopype.transport.reading import Reader
from aiopype.transport.security import connection_options
from aiopype.worker import Worker

__all__ = ["EMBEDDED", "OnKafka", "broker_for"]

#: As the address of a broker: one that is started for the run.
EMBEDDED = "embedded"

#: Between two looks into the topics.
LOOK_SECONDS = 0.1

#: Between two looks at what comes of itself.
STEP_SECONDS = 0.01


class OnKafka:
    """Runs a flow in a worker, and reads its topics from outside.

    Arguments:
        build: makes the managers, on an AsyncProtocol.
        settings: of the flow; its `broker` is given.
        clock: of the sources.
        seen: gets every committed event.
    """

    #: For whatever a test waits for.
    patience_seconds = 30.0

    def __init__(
        self,
        build: Callable[[], Pipelines],
        settings: Settings,
        clock: Clock,
        seen: Seen,
    ) -> None:
        self._build = build
        self._settings = settings
        self.clock = clock
        self._seen = seen
        self._read: dict[tuple[str, int], int] = {}
        self._looking = asyncio.Lock()
        self._opened = AsyncExitStack()
        self.pipelines: Pipelines

    async def start(self, run_source: Callable[[Source], Awaitable[None]]) -> None:
        """Build the managers, start the worker and let the sources come to `run_source`."""
        self.pipelines = self._build()
        self.pipelines.run_source = run_source
        for source in self.pipelines.sources.values():
            source.clock = self.clock
        address = str(self._settings.broker)
        reader = Reader(address, security=connection_options(self._settings))
        self._reader = await self._opened.enter_async_context(reader)
        topics = [topic for topic, _ in self.pipelines.protocol.graph.subscribed()]
        self._completion = Completion(self._reader, self._settings.group, topics)
        self._worker = Worker(self._settings, address, self.pipelines)
        self._running = asyncio.create_task(self._worker.run(), name="worker under test")
        self._watching = asyncio.create_task(self._watch(), name="read the topics of the test")
        await asyncio.sleep(0)  # only a worker that has begun can be stopped

    async def stop(self) -> None:
        """Stop the worker; what it raised is raised."""
        self._worker.stop()
        try:
            await self._running
        finally:
            await stop_task(self._watching, 5.0)
            await self._look()
            await self._opened.aclose()

    async def step(self, until: Callable[[], object]) -> None:
        """Wait a little; raise what the worker, or the reading of its topics, has ended with."""
        await asyncio.sleep(STEP_SECONDS)
        for task in (self._running, self._watching):
            if task.done():
                task.result()

    async def settle(self) -> None:
        """Wait until everything that was emitted is handled, and read what came of it."""
        while not await self._completion.is_handled():
            await self.step(lambda: False)
        await self._look()

    async def _watch(self) -> None:
        protocol, supervisor = self.pipelines.protocol, self.pipelines.supervisor
        while not (protocol.progress.partitions or supervisor.sources):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)  # until the topics are there
        while True:
            await self._look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """Take what the topics have that was not taken yet."""
        topics = self.pipelines.protocol.graph.topics()
        events = {
            topic.name: topic.full_name for topic in topics if not is_replays(topic.component)
        }
        async with self._looking:
            async for record in self._reader.records(list(events), after=self._read):
                self._read[record.topic, record.partition] = record.offset + 1
                found = Record(record.key, record.value or b"", record.partition)
                self._seen.add(events[record.topic], found)


async def broker_for(address: str, folder: Path, opened: AsyncExitStack) -> str:
    """Return the address of a broker: the given one, or of one in `folder` that ends with `opened`.

    Raises:
        BrokerError: it cannot be started.
    """
    if address != EMBEDDED:
        return address
    started = await asyncio.to_thread(broker.start, folder)
    opened.push_async_callback(asyncio.to_thread, started.stop)
    return started.address
