"""What operators write about the sources of a flow, from any machine: wishes, and positions."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from aiokafka import errors as kafka_errors

from aiopype.errors import BrokerError, DeliveryError, StateCorrupt
from aiopype.ownership import RESET, SourceState, Wish, wish_topic
from aiopype.topics import Topic, TopicSpec
from aiopype.transport.admin import Admin
from aiopype.transport.outputs import pack
from aiopype.transport.reading import Writer
from aiopype.transport.source_states import SourceStates, new_state_topic
from aiopype.transport.stored import Outgoing
from aiopype.transport.transactions import ATTEMPT_SECONDS, TransactionalProducer
from aiopype.transport.wishes import WISH_CONFIGS

__all__ = ["OPERATOR", "Operator"]

#: Who owns a source that was reset, until a worker does.
OPERATOR = "operator"

#: A running owner that is fenced fences back after a second; so one attempt is nearly always it.
ATTEMPTS = 5


class Operator:
    """Writes wishes and positions; what it writes to is created where it does not exist yet.

    Arguments:
        brokers: `host:port,...`.
        group: the flow's.
        security: from `connection_options`.

    Raises:
        BrokerError: in every method, when the brokers cannot be reached, do not answer in time, or
            do not allow it.
    """

    def __init__(
        self, brokers: str, group: str, *, security: Mapping[str, Any] | None = None
    ) -> None:
        self._brokers = brokers
        self._group = group
        self._security = security or {}

    async def wish(self, wishes: Mapping[str, Wish]) -> None:
        """Write what is wished, by source; of two operators at the same time the last one wins."""
        name = wish_topic(self._group)
        await self._ensure(Topic(name, "wish", TopicSpec(1, None, WISH_CONFIGS, name)))
        records = [
            Outgoing(name, 0, wish.at_ms, source.encode(), wish.encode())
            for source, wish in wishes.items()
        ]
        async with Writer(self._brokers, security=self._security) as writer:
            await writer.write(records)

    async def put(self, source: str, position: bytes | None, epoch: int) -> SourceState:
        """Say where a source is, whoever owns it; return that.

        A running owner is fenced: what it has not written yet it drops, and it begins anew from
        there. What is stored need not be readable.

        Arguments:
            position: in JSON; None is the beginning.
            epoch: the highest one that is known of it; what is stored may say a higher one.
        """
        topic = new_state_topic(self._group)
        await self._ensure(topic)
        for left in reversed(range(ATTEMPTS)):
            try:
                with _translated(f"writing where {source} is"):
                    return await self._put(topic, source, position, epoch)
            except BrokerError as error:
                if not (left and isinstance(error.__cause__, kafka_errors.ProducerFenced)):
                    raise
        raise AssertionError("the last attempt raises")

    async def _put(
        self, topic: Topic, source: str, position: bytes | None, epoch: int
    ) -> SourceState:
        name = f"{self._group}.src.{source}"
        producer = TransactionalProducer(self._brokers, name, self._security)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await producer.start()
            # Now nobody else writes: what is read is the last.
            epoch = max(epoch, await self._last_epoch(topic, source))
            state = _state(position, epoch + 1)
            event = (topic, source.encode(), state.encode(), state.at_ms, False)
            packed = pack([event], producer.create_batch, 0, None)
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await producer.commit(packed, self._group, {})
        finally:
            await producer.stop()
        return state

    async def _last_epoch(self, topic: Topic, source: str) -> int:
        states = SourceStates(self._brokers, topic, self._security)
        try:
            last = await states.read(source)
        except StateCorrupt:
            return 0
        finally:
            await states.stop()
        return 0 if last is None else last.epoch

    async def _ensure(self, topic: Topic) -> None:
        with _translated(f"creating topic {topic.name}"):
            async with Admin(self._brokers, {topic}, security=self._security):
                pass  # its start creates what is missing


def _state(position: bytes | None, epoch: int) -> SourceState:
    now = int(time.time() * 1000)
    return SourceState(
        position=msgspec.Raw(position or b"null"),
        epoch=epoch,
        run=f"{RESET}{uuid.uuid4().hex}",
        number=0,
        worker=OPERATOR,
        since_ms=now,
        at_ms=now,
    )


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (kafka_errors.KafkaError, DeliveryError, TimeoutError, OSError) as error:
        text = str(error) or type(error).__name__
        raise BrokerError(f"{what}: {text}; look into the brokers' own logs") from error
