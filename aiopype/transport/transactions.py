"""A transactional producer of whole batches: outputs and offsets become durable together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from itertools import count
from time import monotonic
from typing import Any, NamedTuple

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.structs import TopicPartition

from aiopype.progress import DeliveryProgress
from aiopype.transport.outputs import BATCH_BYTES, Packed

__all__ = ["ATTEMPT_SECONDS", "TRANSACTION_SECONDS", "TransactionalProducer", "new_client"]

#: The broker aborts a transaction that is open for longer, and fences its producer.
TRANSACTION_SECONDS = 15.0

#: An attempt to open a producer or to make a batch durable ends after this: before the broker's
#: own limit, so that nothing is committed of what this worker has given up.
ATTEMPT_SECONDS = 10.0

#: Until the broker has written the markers of a transaction, some milliseconds, it answers the next
#: one that it is concurrent; aiokafka waits 20 to 100 ms then.
MARKERS_SECONDS = 0.002

#: Between two attempts after any other answer that asks for another: a leader or coordinator that
#: moves, a topic that is new. It doubles up to the last.
FIRST_SECONDS, LAST_SECONDS = 0.01, 0.2

#: Another producer has the id, or the broker has ended a transaction that took too long. Code 90
#: is PRODUCER_FENCED, which aiokafka does not know.
_FENCED = (kafka_errors.InvalidProducerEpoch.errno, 90)

_MOVED = (
    kafka_errors.NotCoordinatorError.errno,
    kafka_errors.CoordinatorNotAvailableError.errno,
)
_AGAIN = (
    kafka_errors.CoordinatorLoadInProgressError.errno,
    kafka_errors.UnknownTopicOrPartitionError.errno,
)
_CONCURRENT = kafka_errors.ConcurrentTransactions.errno
_DUPLICATE = kafka_errors.DuplicateSequenceNumber.errno
_NOT_ATTEMPTED = kafka_errors.OperationNotAttempted.errno  # because of another partition


class _Identity(NamedTuple):
    """How the brokers know a producer: the epoch grows when another starts with the same id."""

    transactional_id: str
    producer_id: int
    producer_epoch: int


def new_client(brokers: str, security: Mapping[str, Any] | None = None) -> AIOKafkaClient:
    """Return a client for transactional producers, not connected yet."""
    return AIOKafkaClient(
        bootstrap_servers=brokers,
        # The answer to a request may take longer than an attempt; nobody waits for it then.
        request_timeout_ms=int(TRANSACTION_SECONDS * 1000),
        **(security or {}),
    )


class TransactionalProducer:
    """Speaks Kafka's protocol of transactions for one transactional id.

    It is good for one error: after any the caller throws it away and starts another, which fences
    this one and ends its transaction. So it keeps no state over an error, and nothing it has sent
    can count for a later transaction. aiokafka's own producer repeats requests in the background
    after their transaction has been given up, and waits 100 ms where 2 are enough.

    Arguments:
        brokers: `host:port,...`.
        transactional_id: whoever starts with the same one fences this producer.
        security: from `connection_options`.
        client: a connected one to share with others; it is not closed here.
        figures: counts the transactions.
    """

    def __init__(
        self,
        brokers: str,
        transactional_id: str,
        security: Mapping[str, Any] | None = None,
        client: AIOKafkaClient | None = None,
        figures: DeliveryProgress | None = None,
    ) -> None:
        self._figures = figures or DeliveryProgress()
        self._is_shared = client is not None
        self._client = client or new_client(brokers, security)
        self._identity = _Identity(transactional_id, -1, -1)
        self._sequences: dict[TopicPartition, int] = defaultdict(int)
        self._coordinators: dict[str, int] = {}

    async def start(self) -> None:
        """Fence whoever has the id, end its transaction, and wait until that is done.

        Raises:
            KafkaError: it is refused, or the brokers cannot be reached.
        """
        if not self._is_shared:
            await self._client.bootstrap()
        request = InitProducerIdRequest(
            transactional_id=self._identity.transactional_id,
            transaction_timeout_ms=int(TRANSACTION_SECONDS * 1000),
        )
        answer = await self._ask(request)
        self._identity = self._identity._replace(
            producer_id=answer.producer_id, producer_epoch=answer.producer_epoch
        )

    async def stop(self) -> None:
        """Disconnect; a transaction that is open is ended by the next producer of the id."""
        if not self._is_shared:
            await self._client.close()

    def create_batch(self) -> BatchBuilder:
        """Return an empty record batch of this producer's transactions."""
        return BatchBuilder(BATCH_BYTES, 0, is_transactional=True)

    async def commit(
        self, packed: Sequence[Packed], group: str, offsets: Mapping[TopicPartition, int]
    ) -> None:
        """Make record batches and the group's offsets durable in one transaction.

        Raises:
            KafkaError: it is not durable, or not known to be; use this producer no more.
        """
        began = monotonic()
        try:
            await self._commit(packed, group, offsets)
        except kafka_errors.ProducerFenced:
            self._figures.fenced += 1
            raise
        except BaseException:
            self._figures.aborted += 1  # by the next producer of the id, or by the broker
            raise
        self._figures.committed += 1
        self._figures.seconds.add(monotonic() - began)

    async def _commit(
        self, packed: Sequence[Packed], group: str, offsets: Mapping[TopicPartition, int]
    ) -> None:
        # The broker asks the coordinator about the first batch of each partition and about the
        # offsets (KIP-890). While the coordinator adds something, or has two such questions about
        # one transaction, the answer is NOT_ENOUGH_REPLICAS; so these are steps, one by one.
        partitions = AddPartitionsToTxnRequest(
            *self._identity, _by_topic({(p.topic, p.partition): p.partition for p in packed})
        )
        if offsets:
            offered = AddOffsetsToTxnRequest(*self._identity, group)
            # One connection, whose requests the broker takes one after the other.
            await _together(self._ask(partitions), self._ask(offered))
        else:
            await self._ask(partitions)
        await self._write(packed)
        if offsets:
            positions = {tp: (tp.partition, offset, "") for tp, offset in offsets.items()}
            request = TxnOffsetCommitRequest(
                self._identity.transactional_id,
                group,
                self._identity.producer_id,
                self._identity.producer_epoch,
                _by_topic(positions),
            )
            await self._ask(request, group)
        await self._ask(EndTxnRequest(*self._identity, True))

    # --- coordinators

    async def _ask(self, request: Any, group: str | None = None) -> Any:
        """Send a request to the coordinator of the id, or of a group, until it is accepted."""
        delays = _delays()
        while True:
            node = await self._coordinator(group)
            answer = await self._client.send(node, request, group=ConnectionGroup.COORDINATION)
            # Of two errors the one that says what is the matter.
            code = min((c for c in _codes(answer) if c), key=_NOT_ATTEMPTED.__eq__, default=0)
            if code == 0:
                return answer
            if code == _CONCURRENT:
                await asyncio.sleep(MARKERS_SECONDS)
                continue
            if code in _MOVED:
                self._coordinators.pop(group or "", None)
            elif code not in _AGAIN:
                raise _error(code, type(request).__name__)
            await asyncio.sleep(next(delays))

    async def _coordinator(self, group: str | None) -> int:
        known = self._coordinators.get(group or "")
        if known is not None:
            return known
        kind = CoordinationType.TRANSACTION if group is None else CoordinationType.GROUP
        delays = _delays()
        while True:
            try:
                node = await self._client.coordinator_lookup(
                    kind, self._identity.transactional_id if group is None else group
                )
            except kafka_errors.CoordinatorNotAvailableError:
                await asyncio.sleep(next(delays))
            else:
                self._coordinators[group or ""] = int(node)
                return int(node)

    # --- leaders

    async def _write(self, packed: Sequence[Packed]) -> None:
        """Write record batches, one of each partition at a time, and await all replicas' word."""
        waiting: dict[TopicPartition, list[Any]] = defaultdict(list)
        for topic, partition, batch in packed:
            waiting[TopicPartition(topic, partition)].append(batch)
        for place in count():
            batches = {tp: found[place] for tp, found in waiting.items() if place < len(found)}
            if not batches:
                return
            await self._write_each({tp: self._numbered(tp, batch) for tp, batch in batches.items()})

    def _numbered(self, tp: TopicPartition, batch: Any) -> bytes:
        """Return the bytes of a batch with its place in the sequence: it can be sent again."""
        _, producer_id, epoch = self._identity
        batch._set_producer_state(producer_id, epoch, self._sequences[tp])
        self._sequences[tp] = (self._sequences[tp] + batch.record_count()) % 2**31
        data: bytes = batch._build()
        return data

    async def _write_each(self, left: dict[TopicPartition, bytes]) -> None:
        delays = _delays()
        while True:
            by_leader: dict[int, dict[TopicPartition, bytes]] = defaultdict(dict)
            for tp, data in left.items():
                by_leader[await self._leader(tp)][tp] = data
            answers = [self._produce(leader, its_own) for leader, its_own in by_leader.items()]
            left = {tp: left[tp] for found in await _together(*answers) for tp in found}
            if not left:
                return
            await asyncio.sleep(next(delays))
            await self._client.force_metadata_update()

    async def _leader(self, tp: TopicPartition) -> int:
        while True:
            leader = self._client.cluster.leader_for_partition(tp)
            if leader is not None and leader >= 0:
                return int(leader)
            await self._client._wait_on_metadata(tp.topic)
            if self._client.cluster.leader_for_partition(tp) in {None, -1}:
                await asyncio.sleep(LAST_SECONDS)
                await self._client.force_metadata_update()

    async def _produce(self, leader: int, batches: dict[TopicPartition, bytes]) -> list[Any]:
        """Send one request; return the partitions that are to be tried again."""
        request = ProduceRequest(
            transactional_id=self._identity.transactional_id,
            required_acks=-1,
            timeout=int(ATTEMPT_SECONDS * 1000),
            topics=_by_topic({tp: (tp.partition, data) for tp, data in batches.items()}),
        )
        answer = await self._client.send(leader, request)
        again = []
        for topic, partitions in answer.topics:
            for partition, code, *_ in partitions:
                if code and code != _DUPLICATE:
                    error = _error(code, f"writing to {topic}[{partition}]")
                    if not error.retriable:
                        raise error
                    again.append(TopicPartition(topic, partition))
        return again


async def _together(*waits: Coroutine[Any, Any, Any]) -> list[Any]:
    """Await all of these; when one fails none of the others goes on."""
    tasks = [asyncio.create_task(wait, name="a request of a transaction") for wait in waits]
    try:
        return await asyncio.gather(*tasks)
    finally:
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


def _by_topic(entries: Mapping[Any, Any]) -> list[tuple[str, list[Any]]]:
    """Return entries that are known by topic and partition in the form of Kafka's requests."""
    topics: dict[str, list[Any]] = defaultdict(list)
    for (topic, _), entry in entries.items():
        topics[topic].append(entry)
    return list(topics.items())


def _codes(answer: Any) -> Iterable[int]:
    """Yield the error codes of an answer: one of its own, or those of its partitions."""
    if hasattr(answer, "error_code"):
        yield answer.error_code
    else:
        for _, partitions in answer.errors:
            yield from (code for _, code in partitions)


def _error(code: int, doing: str) -> kafka_errors.KafkaError:
    if code in _FENCED:
        return kafka_errors.ProducerFenced()
    return kafka_errors.for_code(code)(f"{doing}: code {code}")


def _delays() -> Iterator[float]:
    delay = FIRST_SECONDS
    while True:
        yield delay
        delay = min(2 * delay, LAST_SECONDS)
