"""Services of ours beside Faust's: a web server, the agents' numbers, the end of restarts."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from mode import Service

from aiopype.health import Health
from aiopype.metrics import Metrics
from aiopype.protocol.kafka import AsyncProtocol
from aiopype.settings import Settings
from aiopype.supervision import Supervisor
from aiopype.transport.batches import Batch, Delivery
from aiopype.transport.driver import Transport
from aiopype.web import OfWorker, WebServer

if TYPE_CHECKING:
    import faust

    from aiopype.progress import Progress

__all__ = ["Agents", "Counted", "LoopDelay", "Restarts", "Web"]

#: How often it is measured how late the event loop is: what holds it for so long is seen for sure.
LOOP_SECONDS = 0.25


class Counted:
    """A delivery whose batches are counted when they are durable."""

    def __init__(self, delivery: Delivery, progress: Progress) -> None:
        self._delivery = delivery
        self._progress = progress
        self.trusts_memory = delivery.trusts_memory
        self.open = delivery.open
        self.keep = delivery.keep

    async def deliver(self, batch: Batch) -> None:
        """Deliver, then count."""
        await self._delivery.deliver(batch)
        if batch.position is None:
            return  # events that waited, which were counted when they came
        topic, number, records = batch.partition.topic.name, batch.partition.number, batch.records
        self._progress.handled(topic, number, len(records), records[-1].timestamp, batch.position)
        self._progress.spread(topic, records, time.monotonic() - batch.began)


class LoopDelay(Service):
    """Measures by how much the event loop is late for what is due.

    Arguments:
        progress: gets the delays.
    """

    mundane_level = "debug"

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    @Service.task
    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.should_stop:
            due = loop.time() + LOOP_SECONDS
            await asyncio.sleep(LOOP_SECONDS)
            self._progress.loop_delay.add(max(0.0, loop.time() - due))


class Restarts(Service):
    """Ends the restarts when the worker stops."""

    mundane_level = "debug"

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__()
        self._supervisor = supervisor

    async def on_stop(self) -> None:
        """End them."""
        self._supervisor.stop()


class Web(Service):
    """The web server, from before the worker connects until it has stopped."""

    mundane_level = "debug"

    def __init__(self, settings: Settings, health: Health, metrics: Metrics) -> None:
        super().__init__()
        self._server = WebServer(
            settings.web_host, settings.web_port, OfWorker(health, metrics), settings.web_token
        )

    async def on_start(self) -> None:
        """Listen."""
        await self._server.start()

    async def on_stop(self) -> None:
        """Close the port."""
        await self._server.stop()


class Agents(Service):
    """Declares a Faust agent for each subscription, as many at once as its topic has partitions.

    A service, because the number of partitions is known only when the topics exist.
    """

    mundane_level = "debug"

    def __init__(self, app: faust.App, transport: Transport, protocol: AsyncProtocol) -> None:
        super().__init__()
        self._app = app
        self._agents = []
        for topic, subscriptions in protocol.graph.subscribed():
            for subscription in subscriptions:
                # acks=False: Faust shall count no offset of it.
                channel = app.topic(topic.name, acks=False, allow_empty=True)
                agent = app.agent(channel, name=subscription.name)(transport.agent(subscription))
                self._agents.append((agent, topic))

    async def on_start(self) -> None:
        """Set the numbers; the agents start after this."""
        for agent, topic in self._agents:
            agent.concurrency = topic.partitions or 1
