"""A transactional producer, and the transaction of one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.producer import sender as aiokafka_sender
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from aiopype.transport.outputs import BATCH_BYTES, Packed
from aiopype.transport.producer import retrieve, write

__all__ = ["ATTEMPT_SECONDS", "TransactionalProducer"]

#: The broker aborts a transaction that is open for longer, and fences its producer.
TRANSACTION_SECONDS = 15.0

#: An attempt to open a producer or to make a batch durable ends after this: before the broker's
#: own limit, so that nothing is committed of what this worker has given up.
ATTEMPT_SECONDS = 10.0

#: Until the broker has written the markers of a transaction, which takes about 2 ms, it answers
#: the next one with a retriable error. aiokafka then waits 20 to 100 ms.
MARKERS_SECONDS = 0.002


class TransactionalProducer(AIOKafkaProducer):  # type: ignore[misc]
    """A producer whose batches and offsets become durable together, or not at all.

    It is good for one error: after any the caller throws it away and opens another, whose start
    fences this one and ends its transaction (no KIP-360 and no KIP-890 in aiokafka).

    Arguments:
        brokers: `host:port,...`.
        transactional_id: whoever starts with the same one fences this producer.
        security: from `connection_options`.
    """

    def __init__(
        self, brokers: str, transactional_id: str, security: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(
            bootstrap_servers=brokers,
            transactional_id=transactional_id,
            transaction_timeout_ms=int(TRANSACTION_SECONDS * 1000),
            max_batch_size=BATCH_BYTES,
            linger_ms=0,
            # The answer to a request may take longer than an attempt; nobody waits for it then.
            request_timeout_ms=int(TRANSACTION_SECONDS * 1000),
            **(security or {}),
        )
        self._sender = _Sender(
            self.client,
            acks=-1,
            txn_manager=self._txn_manager,
            retry_backoff_ms=100,
            message_accumulator=self._message_accumulator,
            request_timeout_ms=int(TRANSACTION_SECONDS * 1000),
        )

    async def commit(
        self, packed: Sequence[Packed], group: str, offsets: Mapping[TopicPartition, int]
    ) -> None:
        """Make record batches and the group's offsets durable in one transaction.

        Raises:
            KafkaError, AssertionError: not durable, or not known to be; use it no more.
        """
        await self.begin_transaction()
        transaction = self._txn_manager
        # Whoever waits for it may have given up when it fails.
        transaction.wait_for_transaction_end().add_done_callback(retrieve)
        # One after the other. A batch that fails does not fail the transaction in aiokafka, so each
        # future is awaited. And the broker asks the coordinator about the first batch of each
        # partition and about the offsets (KIP-890): of two questions about one transaction at once,
        # one is answered with NOT_ENOUGH_REPLICAS, which aiokafka repeats after 100 ms.
        await write(self, packed)
        if offsets:
            due = {tp: OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
            added = transaction.add_offsets_to_txn(due, group)
            added.add_done_callback(retrieve)
            await added
        await self.commit_transaction()


class _Sender(aiokafka_sender.Sender):  # type: ignore[misc]
    """aiokafka's, with a shorter wait for the end of the transaction before."""

    async def _do_add_partitions_to_txn(self, tps: Any) -> Any:
        transaction = aiokafka_sender.CoordinationType.TRANSACTION
        node = await self._find_coordinator(transaction, self._txn_manager.transactional_id)
        return await _AddPartitions(self, tps).do(node)

    async def _do_add_offsets_to_txn(self, group_id: str) -> Any:
        transaction = aiokafka_sender.CoordinationType.TRANSACTION
        node = await self._find_coordinator(transaction, self._txn_manager.transactional_id)
        return await _AddOffsets(self, group_id).do(node)


class _AddPartitions(aiokafka_sender.AddPartitionsToTxnHandler):  # type: ignore[misc]
    def handle_response(self, response: Any) -> float | None:
        codes = {code for _, partitions in response.errors for _, code in partitions}
        return _wait(super().handle_response(response), codes)


class _AddOffsets(aiokafka_sender.AddOffsetsToTxnHandler):  # type: ignore[misc]
    def handle_response(self, response: Any) -> float | None:
        return _wait(super().handle_response(response), {response.error_code})


def _wait(seconds: float | None, codes: set[int]) -> float | None:
    if seconds is not None and kafka_errors.ConcurrentTransactions.errno in codes:
        return MARKERS_SECONDS
    return seconds
