"""Topics that others make: whether they are there. They are only looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from aiopype.errors import BrokerError
from aiopype.logs import about
from aiopype.topics import Topic

__all__ = ["find", "wait_for"]

logger = logging.getLogger(__name__)

#: What is not there after this is missing; what was just made, or has just lost its leader, is seen
#: sooner.
FIND_SECONDS = 5.0

#: Between two looks.
LOOK_SECONDS = 0.5

#: Returns the partitions of those topics that exist and have leaders, without asking for them by
#: name: a broker may be set to create those.
Look = Callable[[Collection[str]], Awaitable[dict[str, list[Any]]]]


async def find(topics: Sequence[Topic], look: Look, brokers: str) -> dict[str, list[Any]]:
    """Return the partitions of topics of others.

    Raises:
        BrokerError: one is not there within 5 s.
        KafkaError, TimeoutError: no answer.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + FIND_SECONDS
    while missing := _missing(topics, found := await look([topic.name for topic in topics])):
        if loop.time() >= until:
            topic = missing[0]
            raise BrokerError(
                f"topic {topic.name!r}, which {topic.component!r} reads, does not exist at "
                f"{brokers}, has no leader, or may not be described by this client; create it, "
                "correct the name, or set the source's option wait=True"
            )
        await asyncio.sleep(LOOK_SECONDS)
    return found


async def wait_for(topics: Sequence[Topic], look: Look) -> None:
    """Wait until topics of others are there, as long as it takes.

    Raises:
        KafkaError, TimeoutError: no answer.
    """
    told: set[Topic] = set()
    while missing := _missing(topics, await look([topic.name for topic in topics])):
        for topic in missing:
            if topic not in told:
                logger.info(
                    "waiting for topic %s, which %s reads", topic.name, topic.component,
                    extra=about(topic.component, topic.name),
                )  # fmt: skip
        told.update(missing)
        await asyncio.sleep(LOOK_SECONDS)


def _missing(topics: Sequence[Topic], found: Collection[str]) -> list[Topic]:
    return [topic for topic in topics if topic.name not in found]
