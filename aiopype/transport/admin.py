"""Topics on the broker: made before they are needed, and what the broker says of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from mode import Service

from aiopype.errors import BrokerError
from aiopype.topics import DEFAULT_PARTITIONS, Topic

__all__ = ["Admin"]

logger = logging.getLogger(__name__)

#: For reaching the brokers, and for each of their answers.
ANSWER_SECONDS = 20.0

_ALREADY_THERE = kafka_errors.TopicAlreadyExistsError.errno
_UNKNOWN = kafka_errors.UnknownTopicOrPartitionError.errno


class Admin(Service):
    """Creates topics and asks for their partitions.

    Faust ignores a topic that does not exist when it starts, for minutes; so this is the first
    service of a worker.

    Arguments:
        brokers: `host:port,...`.
        unresolved: topics to create at the start; those that are resolved leave it.
    """

    logger = logger
    mundane_level = "debug"

    def __init__(self, brokers: str, unresolved: set[Topic], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._brokers = brokers
        self._unresolved = unresolved
        self._client: AIOKafkaAdminClient | None = None
        self._asking = asyncio.Lock()

    async def on_start(self) -> None:
        """Connect and create the flow's topics.

        Raises:
            BrokerError: the brokers cannot be reached in 20 s.
        """
        client = AIOKafkaAdminClient(
            bootstrap_servers=self._brokers, request_timeout_ms=int(ANSWER_SECONDS * 1000)
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.start()
        except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
            await client.close()
            raise BrokerError(
                f"no Kafka broker answers at {self._brokers}: {error}; "
                "start it, or correct AIOPYPE_BROKER or --broker"
            ) from error
        self._client = client
        await self.ensure(self._unresolved)

    async def on_stop(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await self._client.close()

    async def ensure(self, topics: set[Topic]) -> None:
        """Create those of `topics` that do not exist and note how many partitions each has.

        A topic is taken out of the set when it is known. An existing topic is left as it is.

        Raises:
            BrokerError: a topic cannot be created; the text has the broker's reason.
            KafkaError, TimeoutError: no answer.
        """
        async with self._asking:  # two batches may meet the same new topic
            wanted = {topic.name: topic for topic in topics}
            counts = await self.partitions(wanted)
            missing = [name for name in wanted if name not in counts]
            if missing:
                await self.create(missing)
                counts |= await self._wait_for(missing)
            for name, count in counts.items():
                wanted[name].partitions = count
                topics.discard(wanted[name])

    async def create(
        self,
        names: list[str],
        partitions: int = DEFAULT_PARTITIONS,
        configs: Mapping[str, str] | None = None,
    ) -> None:
        """Create topics; one that exists is left as it is.

        Raises:
            BrokerError: a topic cannot be created; the text has the broker's reason.
        """
        assert self._client is not None
        # replication -1: what the cluster's default.replication.factor says. The empty assignment
        # is for aiokafka's own check, which has that case the wrong way round.
        config = dict(configs or {})
        new = [NewTopic(name, partitions, -1, {}, config) for name in names]
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await self._client.create_topics(new)
        for name, code, *text in answer.topic_errors:
            if code == 0:
                logger.info("topic %s created with %d partitions", name, partitions)
            elif code != _ALREADY_THERE:
                reason = text[0] if text and text[0] else kafka_errors.for_code(code).__name__
                raise BrokerError(
                    f"topic {name!r} cannot be created: {reason}; "
                    "create it yourself, or give this client the right to"
                )

    async def partitions(self, names: Mapping[str, Any] | list[str]) -> dict[str, int]:
        """Return the number of partitions of those topics that exist and have leaders."""
        assert self._client is not None
        if not names:
            return {}
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await self._client.describe_topics(list(names))
        counts = {}
        for topic in found:
            led = all(p["error_code"] == 0 for p in topic["partitions"])
            if topic["error_code"] == 0 and topic["partitions"] and led:
                counts[topic["topic"]] = len(topic["partitions"])
            elif topic["error_code"] not in {0, _UNKNOWN} and not _passing(topic["error_code"]):
                error = kafka_errors.for_code(topic["error_code"])
                raise BrokerError(f"topic {topic['topic']!r}: {error.__name__}")
        return counts

    async def _wait_for(self, names: list[str]) -> dict[str, int]:
        # A topic that was created is known to all brokers a little later.
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                counts = await self.partitions(names)
                if len(counts) == len(names):
                    return counts
                await asyncio.sleep(0.05)


def _passing(code: int) -> bool:
    return bool(kafka_errors.for_code(code).retriable)
