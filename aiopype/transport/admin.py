"""Topics on the broker: made before they are needed, and what the broker says of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from mode import Service

from aiopype.errors import BrokerError
from aiopype.logs import about
from aiopype.topics import (
    DEFAULT_PARTITIONS,
    LARGEST_BYTES,
    RECORD_BYTES,
    Topic,
    TopicSpec,
)
from aiopype.transport import diagnosis, foreign_topics
from aiopype.transport.differences import differences

__all__ = ["Admin"]

logger = logging.getLogger(__name__)

#: For reaching the brokers, and for each of their answers.
ANSWER_SECONDS = 20.0

#: For the whole start; with the stop after it a worker that cannot work has ended in 30 s.
START_SECONDS = 25.0

#: Kafka's settings that say what records a topic takes.
LARGEST, CLEANUP = "max.message.bytes", "cleanup.policy"

_ALREADY_THERE = kafka_errors.TopicAlreadyExistsError.errno
_UNKNOWN = kafka_errors.UnknownTopicOrPartitionError.errno


class Admin(Service):
    """Creates topics, compares those that exist, and asks for their partitions.

    Faust ignores a topic that does not exist when it starts, for minutes; so this is the first
    service of a worker.

    Arguments:
        brokers: `host:port,...`.
        unresolved: topics to create at the start; those that are resolved leave it.
        security: from `connection_options`.
    """

    logger = logger
    mundane_level = "debug"

    def __init__(
        self,
        brokers: str,
        unresolved: set[Topic],
        *,
        security: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._brokers = brokers
        self._security = security or {}
        self._unresolved = unresolved
        self._client: AIOKafkaAdminClient | None = None
        self._asking = asyncio.Lock()

    async def on_start(self) -> None:
        """Connect and create the flow's topics.

        Raises:
            BrokerError: the brokers cannot be reached or do not answer, or a topic cannot be
                created or seen; within 25 s, not counted what is waited for topics of others.
        """
        waited = [t for t in self._unresolved if t.foreign is not None and t.foreign.wait]
        try:
            async with asyncio.timeout(START_SECONDS) as limit:
                await self._connect()
                if waited:
                    limit.reschedule(None)
                    await foreign_topics.wait_for(waited, self._look)
                    limit.reschedule(asyncio.get_running_loop().time() + START_SECONDS)
                await self.ensure(self._unresolved)
        except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
            raise BrokerError(
                await diagnosis.reason(self._brokers, self._security)
                or f"preparing the topics at {self._brokers}: {_text(error)}; "
                "look into the brokers' own logs"
            ) from error

    async def _connect(self) -> None:
        client = AIOKafkaAdminClient(
            bootstrap_servers=self._brokers,
            request_timeout_ms=int(ANSWER_SECONDS * 1000),
            **self._security,
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.start()
        except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
            await client.close()
            raise await diagnosis.unreachable(self._brokers, self._security, error) from error
        self._client = client

    async def on_stop(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await self._client.close()

    async def ensure(self, topics: set[Topic]) -> None:
        """Create those of `topics` that do not exist and note how many partitions each has.

        A topic is taken out of the set when it is known. An existing topic is left as it is; what
        differs from its `spec` is logged. Those of others are only looked at.

        Raises:
            BrokerError: a topic cannot be created or seen; the text has the broker's reason.
            KafkaError, TimeoutError: no answer.
        """
        async with self._asking:  # two batches may meet the same new topic
            wanted = {topic.name: topic for topic in list(topics)}  # a handler's thread may add
            foreign = [topic for topic in wanted.values() if topic.foreign is not None]
            found = await self._describe([n for n, t in wanted.items() if t.foreign is None])
            if foreign:
                found |= await foreign_topics.find(foreign, self._look, self._brokers)
            missing = [topic for name, topic in wanted.items() if name not in found]
            await self._compare([t for name, t in wanted.items() if name in found], found)
            if missing:
                await self._create({topic.name: topic.spec for topic in missing})
                found |= await self._wait_for([topic.name for topic in missing])
            await self._note_limits(list(wanted.values()))
            for name, partitions in found.items():
                wanted[name].partitions = len(partitions)
                topics.discard(wanted[name])

    async def grow(self, name: str, has: int, partitions: int) -> None:
        """Give a topic that has fewer so many partitions.

        Raises:
            BrokerError: the brokers refuse it.
        """
        if has >= partitions:
            return
        assert self._client is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await self._client.create_partitions({name: NewPartitions(partitions)})
        for _, code, *text in answer.topic_errors:
            if code != 0:
                reason = text[0] if text and text[0] else kafka_errors.for_code(code).__name__
                raise BrokerError(f"topic {name!r} needs {partitions} partitions: {reason}")
        await self._wait_for([name], partitions)

    async def create(
        self,
        names: Iterable[str],
        partitions: int = DEFAULT_PARTITIONS,
        configs: Mapping[str, str] | None = None,
    ) -> None:
        """Create topics, and wait until the brokers know them; one that exists is left as it is.

        Raises:
            BrokerError: a topic cannot be created; the text has the broker's reason.
            TimeoutError: no answer.
        """
        specs = dict.fromkeys(names, TopicSpec(partitions, configs=configs or {}))
        await self._create(specs)
        await self._wait_for(list(specs))

    async def partitions(self, names: Collection[str]) -> dict[str, int]:
        """Return the number of partitions of those topics that exist and have leaders.

        Raises:
            BrokerError: a topic may not be seen.
        """
        return {name: len(found) for name, found in (await self._describe(names)).items()}

    async def _create(self, specs: Mapping[str, TopicSpec]) -> None:
        assert self._client is not None
        new = [_new_topic(name, spec) for name, spec in specs.items()]
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await self._client.create_topics(new)
        for name, code, *text in answer.topic_errors:
            if code == 0:
                count = specs[name].partitions or DEFAULT_PARTITIONS
                told = "topic %s created with %d partitions"
                logger.info(told, name, count, extra=about(topic=name))
            elif code != _ALREADY_THERE:
                reason = text[0] if text and text[0] else kafka_errors.for_code(code).__name__
                file = specs[name].file
                raise BrokerError(
                    f"topic {name!r} cannot be created: {reason}; "
                    "create it yourself, or give this client the right to"
                    + (f", or correct {file}" if file else "")
                )

    async def _describe(self, names: Collection[str]) -> dict[str, list[Any]]:
        """Return the partitions of those topics that exist and have leaders."""
        assert self._client is not None
        if not names:
            return {}
        async with asyncio.timeout(ANSWER_SECONDS):
            return _led(await self._client.describe_topics(list(names)))

    async def _look(self, names: Collection[str]) -> dict[str, list[Any]]:
        """Return the same; a broker that is set to create what is asked for by name does not."""
        assert self._client is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            described = await self._client.describe_topics()
        return _led(topic for topic in described if topic["topic"] in names)

    async def _wait_for(self, names: list[str], partitions: int = 1) -> dict[str, list[Any]]:
        # What was created is known to all brokers a little later.
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                found = await self._describe(names)
                if len(found) == len(names) and all(len(f) >= partitions for f in found.values()):
                    return found
                await asyncio.sleep(0.05)

    async def _compare(self, topics: Iterable[Topic], found: Mapping[str, list[Any]]) -> None:
        topics = [topic for topic in topics if topic.spec.file is not None]
        configs = await self._configs([topic for topic in topics if topic.spec.configs])
        for topic in topics:
            partitions = found[topic.name]
            copies = len(partitions[0]["replicas"])
            has = configs.get(topic.name, topic.spec.configs)
            differing = "; ".join(differences(topic, self._brokers, len(partitions), copies, has))
            if differing:
                logger.warning(
                    "topic %s differs from %s and is left as it is: %s",
                    topic.name, topic.spec.file, differing,
                    extra=about(topic=topic.name, apart=topic.name),
                )  # fmt: skip

    async def _note_limits(self, topics: list[Topic]) -> None:
        """Note what records each topic takes; Kafka's default where this client may not see it."""
        asked = {topic.name: [LARGEST, CLEANUP] for topic in topics}
        configs, _ = await self._describe_configs(asked)
        for topic in topics:
            has = configs.get(topic.name, {})
            topic.largest = int(has.get(LARGEST) or LARGEST_BYTES) - RECORD_BYTES
            topic.needs_key = "compact" in (has.get(CLEANUP) or "")

    async def _configs(self, topics: list[Topic]) -> dict[str, dict[str, str | None]]:
        """Return those settings of topics that their specs name, by topic; without the topics
        whose settings this client may not see.
        """
        found, refused = await self._describe_configs({t.name: t.spec.configs for t in topics})
        for name, reason in refused.items():
            text = "settings of topic %s cannot be compared: %s"
            logger.warning(text, name, reason, extra=about(topic=name))
        return found

    async def _describe_configs(
        self, names: Mapping[str, Iterable[str]]
    ) -> tuple[dict[str, dict[str, str | None]], dict[str, str]]:
        """Return settings of topics, by topic, and why some were not told."""
        if not names:
            return {}, {}
        assert self._client is not None
        kind = ConfigResourceType.TOPIC
        asked = [
            ConfigResource(kind, name, dict.fromkeys(keys, "")) for name, keys in names.items()
        ]
        async with asyncio.timeout(ANSWER_SECONDS):
            answers = await self._client.describe_configs(asked)
        found, refused = {}, {}
        for code, text, _, name, entries in (r for answer in answers for r in answer.resources):
            if code == 0:
                found[name] = {key: value for key, value, *_ in entries}
            else:
                refused[name] = text or kafka_errors.for_code(code).__name__
        return found, refused


def _new_topic(name: str, spec: TopicSpec) -> NewTopic:
    # replication -1: what the cluster's default.replication.factor says. The empty assignment is
    # for aiokafka's own check, which has that case the wrong way round.
    partitions = spec.partitions or DEFAULT_PARTITIONS
    copies = spec.replication or -1
    return NewTopic(name, partitions, copies, {} if copies == -1 else None, dict(spec.configs))


def _led(described: Iterable[Any]) -> dict[str, list[Any]]:
    """Return the partitions of those topics that exist and have leaders, by topic.

    Raises:
        BrokerError: this client may not see one of them.
    """
    found = {}
    for topic in described:
        led = all(p["error_code"] == 0 for p in topic["partitions"])
        if topic["error_code"] == 0 and topic["partitions"] and led:
            found[topic["topic"]] = topic["partitions"]
        elif topic["error_code"] not in {0, _UNKNOWN} and not _passing(topic["error_code"]):
            error = kafka_errors.for_code(topic["error_code"])
            raise BrokerError(
                f"topic {topic['topic']!r}: {error.__name__}; "
                "give this client the right to describe, read and write it"
            )
    return found


def _passing(code: int) -> bool:
    return bool(kafka_errors.for_code(code).retriable)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
