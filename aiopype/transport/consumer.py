"""Fetches whole batches of the partitions that have room, on the worker's own event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka_errors
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service

from aiopype.errors import DeliveryError, OwnershipLost
from aiopype.execution import DaemonThreads
from aiopype.logs import about
from aiopype.transport.batches import Batch
from aiopype.transport.heartbeat import ask_group
from aiopype.transport.ledger import Ledger
from aiopype.transport.loop_thread import LoopThread
from aiopype.transport.partition import Partition
from aiopype.transport.refusals import check_group
from aiopype.transport.settings import DRAIN_SECONDS

if TYPE_CHECKING:
    from aiopype.transport.driver import Transport

__all__ = ["Consumer"]

logger = logging.getLogger(__name__)

#: Most records of a batch. Measured: 4,000 instead of 1,000 makes a fifth more events a second.
BATCH_RECORDS = 4_000

#: For an answer of the group's coordinator.
ANSWER_SECONDS = 5.0

#: Longest pause of the fetch loop; it looks for errors of the group at least this often.
PAUSE_SECONDS = 0.5


class Consumer(driver.Consumer):
    """Faust's consumer, with batches instead of messages and a ledger of our own.

    Faust goes on doing subscription, group and assignment. Its own acknowledgements, gaps, commits
    and `_drain_messages` are replaced.
    """

    logger = logger
    mundane_level = "debug"
    transport: Transport

    def on_init(self) -> None:
        """Set up what the partitions of this worker need."""
        self.partitions: dict[TP, Partition] = {}
        self.ledger: Ledger = self.transport.ledger
        self.is_feeding = True
        self.turns = asyncio.Lock()
        self.threads: Executor = DaemonThreads()
        self._woken: asyncio.Future[None] | None = None

    def _new_consumer_thread(self) -> LoopThread:
        return LoopThread(self, loop=self.loop, thread_loop=self.loop, beacon=self.beacon)

    # --- the way in

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and hand over until the fetcher stops (Faust's Fetcher service runs this)."""
        consumer = self._thread._ensure_consumer()
        subscription = consumer._subscription
        # A consumer that counts as fetching is never idle: aiokafka would put an idle one out of
        # the group and not let it back in. A standby without partitions is idle all the time.
        subscription._fetch_count += 1
        try:
            while not (self.should_stop or fetcher.should_stop):
                check_group(consumer._coordinator, self.app.conf.id)
                if not self.flow_active:
                    await self.wait(self.can_resume_flow.wait(), timeout=PAUSE_SECONDS)
                elif not await self._fetch(consumer):
                    await self._pause(consumer)
        except asyncio.CancelledError:
            # Faust cancels this to stop it, and takes that for a crash when the group is just
            # being rebalanced.
            if not (self.should_stop or fetcher.should_stop or self.app.should_stop):
                raise
        finally:
            subscription._fetch_count -= 1

    async def _fetch(self, consumer: AIOKafkaConsumer) -> int:
        if not self.is_feeding or consumer._subscription.reassignment_in_progress:
            return 0
        wanted = {tp for tp, partition in self.partitions.items() if partition.has_room}
        if not wanted:
            return 0
        self.transport.note_ends(consumer, wanted)
        try:
            found = await consumer._fetcher.fetched_records(
                wanted, timeout=0, max_records=BATCH_RECORDS
            )
        except kafka_errors.OffsetOutOfRangeError as error:
            await self._skip_what_is_gone(consumer, error.args[0])
            return 0
        for tp, records in found.items():
            # The position is past transaction markers behind the last record, so lag does not
            # rest on them.
            partition = self.partitions[tp]
            partition.take(Batch(partition, records, await consumer.position(tp)))
        return len(found)

    async def _skip_what_is_gone(
        self, consumer: AIOKafkaConsumer, positions: Mapping[TopicPartition, int]
    ) -> None:
        """Go on where the log begins, and tell what was lost: there is nothing else to read."""
        for tp, position in positions.items():
            partition = self.partitions.get(TP(*tp))
            if partition is None:
                continue
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    begin = (await consumer.beginning_offsets([tp]))[tp]
            except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
                logger.warning("asking where the log of %r begins: %r", partition, error)
                continue  # it is fetched again, and out of range again
            lost = max(0, begin - position)
            if lost:
                why = f"{lost:,} events are lost, which retention deleted before they were handled"
            else:
                why = "it was made anew, or its brokers have lost the end of it"
            logger.error(
                "%r has no offset %d: %s; it is read on from offset %d",
                partition, position, why, begin,
                extra=about(topic=tp.topic, partition=tp.partition, offset=begin, apart=tp),
            )  # fmt: skip
            self.transport.progress.skipped(tp.topic, tp.partition, lost, begin)
            consumer.seek(tp, begin)
            partition.jump(begin)

    async def _pause(self, consumer: AIOKafkaConsumer) -> None:
        """Wait for records or for room, half a second at most."""
        self._woken = asyncio.get_running_loop().create_future()
        arrived = consumer._fetcher._create_fetch_waiter()
        await asyncio.wait(
            {arrived, self._woken}, timeout=PAUSE_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if arrived.done():
            arrived.result()  # an error of the group or of authorization
        else:
            arrived.cancel()

    # --- what partitions ask for (partition.Feed)

    def give(self, batch: Batch, index: int) -> None:
        """Put a batch into the queue of the agent with this index."""
        partition = batch.partition
        tp = TP(partition.topic.name, partition.number)
        last = batch.records[-1]
        message = ConsumerMessage(
            tp.topic, tp.partition, last.offset, last.timestamp / 1000, 0,
            None, None, None, None, tp=tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip
        event = self.app.create_event(None, batch, None, message)
        channel = self.transport.channels[partition.subscriptions[index]]
        channel.queue.force_put_nowait(event)

    def wake(self) -> None:
        """End the pause of the fetch loop: a partition has room."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def go_on(self, partition: Partition, position: int | None, known: int | None) -> int:
        """Fetch from `position` on, or from where the group has got; return the position."""
        tp = TopicPartition(partition.topic.name, partition.number)
        consumer = self._thread._ensure_consumer()
        committed: int | None = 0
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if position is None:
                    await self.ledger.commit(consumer)  # what is due is done
                    committed = await consumer.committed(tp)
                    position = max(committed or 0, known or 0)
                    if position > (committed or 0):
                        # A batch without outputs whose commit was taken back for a transaction
                        # that failed; or somebody has set the group's position back.
                        logger.warning(
                            "%r: the group says %s; this worker goes on at %d, before which all "
                            "is done", partition, committed, position,
                            extra=about(topic=tp.topic, partition=tp.partition, offset=position),
                        )  # fmt: skip
                        self.ledger.done(tp.topic, tp.partition, position)
                if position:
                    consumer.seek(tp, position)
                elif committed is None and partition.topic.begins_at_end:
                    await consumer.seek_to_end(tp)
                    position = await consumer.position(tp)
                    # Or who opens it next would begin at the end again, and pass over what came.
                    self.ledger.done(tp.topic, tp.partition, position)
                    if not await self.ledger.commit(consumer):
                        raise DeliveryError("committing where the flow begins")
                else:
                    await consumer.seek_to_beginning(tp)
                    position = await consumer.position(tp)
            consumer.resume(tp)
        except kafka_errors.IllegalStateError as error:
            raise OwnershipLost(f"{partition!r} is not assigned any more") from error
        except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
            raise DeliveryError(f"asking for the group's position: {error!r}") from error
        return position

    async def committed_offset(self, topic: str, partition: int) -> int | None:
        """Return up to where the group says that a partition is handled; raises a KafkaError."""
        consumer = self._thread._ensure_consumer()
        committed: int | None = await consumer.committed(TopicPartition(topic, partition))
        return committed

    async def check_ownership(self, partition: Partition) -> None:
        """Ask the group by a heartbeat whether the partition is still this worker's."""
        consumer = self._thread._ensure_consumer()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                is_current = await ask_group(consumer._coordinator)
        except TimeoutError as error:
            raise DeliveryError(f"asking the group: no answer in {ANSWER_SECONDS:g} s") from error
        if not is_current or consumer._subscription.reassignment_in_progress:
            raise OwnershipLost("the group is being rebalanced")

    def stop_topics(self, topics: Iterable[str]) -> None:
        """Fetch these topics no more: their manager is stopped."""
        for tp in self._of(topics):
            self.partitions[tp].close()
            self._pause_fetching(tp)

    def resume_topics(self, topics: Iterable[str]) -> None:
        """Fetch these topics again, from where the group has got: their manager is restarted."""
        for tp in self._of(topics):
            if self.partitions[tp].is_closed:
                self._open(tp)

    def _of(self, topics: Iterable[str]) -> list[TP]:
        names = set(topics)
        return [tp for tp in self.partitions if tp.topic in names]

    def _open(self, tp: TP) -> None:
        if tp in self.partitions:
            self.partitions[tp].close()
        partition = self.transport.new_partition(tp, self)
        if partition is not None:
            self.partitions[tp] = partition
            self._pause_fetching(tp)
            if self.transport.is_stopped(partition):
                partition.close()
            else:
                partition.open()

    def _pause_fetching(self, tp: TP) -> None:
        # What is fetched and not taken holds back the other partitions of its broker.
        self._thread._ensure_consumer().pause(TopicPartition(*tp))

    # --- assignment

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group for these topics; a flow of sources alone has none and joins nothing."""
        if topics := list(topics):
            await super().subscribe(topics)
        else:
            # Faust has not started before its first assignment.
            _ = self.add_future(self._assign_nothing())

    async def _assign_nothing(self) -> None:
        self.app.on_rebalance_start()
        await self.on_partitions_assigned(set(), self.app.consumer_generation_id)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take partitions over; each is fetched when it is open."""
        self.is_feeding = True
        await super().on_partitions_assigned(assigned, generation_id)
        for tp in assigned:
            self._open(tp)
        await self.transport.keep(self.partitions.values())
        logger.info("%d partitions assigned", len(self.partitions))

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish what is in work and commit it, then let go."""
        try:
            await self.drain()
        finally:
            for partition in self.partitions.values():
                partition.close()
            self.partitions = {}
            self.transport.progress.revoke()
            self.ledger.forget()
        await super().on_partitions_revoked(revoked)

    async def drain(self) -> int:
        """Begin nothing new, wait for the batches in work, commit; 8 seconds at most.

        What is not done by then is dropped and not committed; returns how many batches that are.
        """
        self.is_feeding = False
        late: set[asyncio.Task[bool]] = set()
        waiting = [asyncio.create_task(p.idle.wait(), name=f"drain {p!r}")
                   for p in self.partitions.values() if not p.idle.is_set()]  # fmt: skip
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=DRAIN_SECONDS)
            for task in late:
                task.cancel()
            if late:
                logger.warning(
                    "%d batches did not end in %g s and are dropped uncommitted",
                    len(late), DRAIN_SECONDS,
                )  # fmt: skip
        for partition in self.partitions.values():
            partition.close()
        await asyncio.gather(*(partition.end() for partition in self.partitions.values()))
        if self._thread._consumer is not None:
            await self.ledger.commit(self._thread._consumer)
        return len(late)

    # --- Faust's own bookkeeping, which must not run beside ours

    @Service.task
    async def _heed_refusals(self) -> None:
        # Faust fetches, where this is looked for too, from its first assignment on.
        while not self.should_stop:
            consumer = self._thread._consumer
            if consumer is not None and consumer._coordinator is not None:
                check_group(consumer._coordinator, self.app.conf.id)
            await self.sleep(PAUSE_SECONDS)

    @Service.task
    async def _keep_committing(self) -> None:
        await self.ledger.keep_committing(self._thread._ensure_consumer)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit nothing: the ledger does."""
        return False

    async def wait_empty(self) -> None:
        """Wait for nothing: `drain` has."""

    async def perform_seek(self) -> None:
        """Seek nowhere: each partition does, when it is open."""
        self.wake()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Look for no livelock: Faust's check reads offsets that we do not keep."""
