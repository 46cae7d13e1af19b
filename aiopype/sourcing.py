"""The sources of a flow on this worker while it owns them, each with its outbox."""

from __future__ import annotations

import asyncio
import logging

from aiopype.pipelines import Pipelines
from aiopype.protocol.kafka import AsyncProtocol
from aiopype.source import Source
from aiopype.supervision import stop_task
from aiopype.transport.outbox import SourceOutbox
from aiopype.transport.producer import Producer

__all__ = ["Sources"]

logger = logging.getLogger(__name__)

#: A stopped source's events have this long to be acknowledged.
FLUSH_SECONDS = 4.0


class Sources:
    """Starts and stops the sources with their outboxes.

    What an outbox cannot send fails its source, which is started again with the same outbox: the
    events wait in it.

    Arguments:
        pipelines: the flow's managers.
        protocol: the one they were built for.
        producer: writes the events.
    """

    def __init__(self, pipelines: Pipelines, protocol: AsyncProtocol, producer: Producer) -> None:
        self._pipelines = pipelines
        self._protocol = protocol
        self._producer = producer
        self._senders: dict[str, tuple[SourceOutbox, asyncio.Task[None]]] = {}

    async def start(self) -> None:
        """Start every source that has not ended."""
        logger.info("this worker runs the sources")
        self._pipelines.start_sources(self._open_outbox)

    async def stop(self) -> None:
        """Stop them and send what they emitted, 9 seconds at most."""
        await self._pipelines.stop_sources()
        senders, self._senders = list(self._senders.values()), {}
        flushes = [
            asyncio.create_task(outbox.flush(), name=f"flush {task.get_name()}")
            for outbox, task in senders
            if not task.done()
        ]
        if flushes:
            _, late = await asyncio.wait(flushes, timeout=FLUSH_SECONDS)
            for flush in late:
                flush.cancel()
                logger.error("events of a source were not acknowledged in %g s", FLUSH_SECONDS)
        for _, task in senders:
            await stop_task(task, 1.0)
        for component in self._protocol.components:
            self._protocol.close_outbox(component.name)
        self._protocol.progress.sources.clear()
        logger.info("the sources are stopped here")

    def _open_outbox(self, source: Source) -> None:
        outbox, sender = self._senders.get(source.name, (None, None))
        if sender is not None and not sender.done():
            return
        outbox = outbox or SourceOutbox(source.name, self._producer)
        self._protocol.open_outbox(source.name, outbox)
        self._protocol.progress.sources.add(source.name)
        name = f"outbox of {source.name}"
        sender = self._pipelines.supervisor.start(name, source.name, outbox.run())
        self._senders[source.name] = (outbox, sender)
