"""Where aiokafka's consumer runs: on the worker's own event loop, with settings of ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import maybe_async

from aiopype.transport.closing import stop_consumer
from aiopype.transport.records import RawRecords
from aiopype.transport.settings import DRAIN_SECONDS

__all__ = ["LoopThread"]

logger = logging.getLogger(__name__)

#: How long the broker may hold a fetch that finds nothing: a partition that gets room meanwhile
#: waits that long for its turn (aiokafka has one fetch a broker under way).
FETCH_WAIT_MS = 250

#: New partitions, and topics that were made anew, are noticed within this.
METADATA_MS = 30_000


class LoopThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, without the thread: its calls run on the worker's loop.

    Two loops that share the interpreter lock cost 10 to 15 % and jitter (docs/adr/0003). The price:
    what blocks the loop blocks the heartbeats too.
    """

    async def start(self) -> None:
        """Start the consumer here."""
        self._started.set()
        self._thread_started.set()
        self.thread_loop = asyncio.get_running_loop()
        await self.on_start()

    async def stop(self) -> None:
        """Leave the group and disconnect."""
        self._stopped.set()
        self.set_shutdown()
        if self._consumer is not None:
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await stop_consumer(self._consumer)
            except TimeoutError:
                logger.warning("the group did not answer to leaving it in %g s", DRAIN_SECONDS)

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `fun` here."""
        return await maybe_async(fun(*args, **kwargs))

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Tell the consumer, on the same loop."""
        await self.consumer.on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Tell the consumer, on the same loop."""
        await self.consumer.on_partitions_assigned(assigned, generation_id)

    async def on_start(self) -> None:
        """Connect; from then on records are handed over as they are stored."""
        await super().on_start()
        fetcher = self._ensure_consumer()._fetcher
        fetcher._records = RawRecords()

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        # Faust's own has a fetch wait of 1.5 s and reads what was never committed.
        conf = self.app.conf
        self._assignor = RoundRobinPartitionAssignor
        return AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",  # a position that is not in the log any more is told of
            metadata_max_age_ms=METADATA_MS,
            isolation_level="read_committed",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            **transport.security,
        )
