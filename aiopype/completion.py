"""When a flow on Kafka has nothing left to do, seen from outside of its workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from aiopype.errors import BrokerError, StateCorrupt
from aiopype.ownership import SourceState, state_topic
from aiopype.pipelines import Pipelines
from aiopype.playback import Playback
from aiopype.settings import Settings
from aiopype.supervision import stop_task
from aiopype.topics import Topic, parked_name
from aiopype.transport.reading import Reader
from aiopype.transport.security import connection_options

__all__ = ["Completion", "stopped_after", "until_played"]

logger = logging.getLogger(__name__)

#: Between two looks; a replay ends so much later than it could.
LOOK_SECONDS = 1.0

#: Before the first look.
START_SECONDS = 3.0

#: For the end of looking.
STOP_SECONDS = 5.0


class Completion:
    """Looks at what a flow's workers have written.

    Arguments:
        reader: connected.
        group: the flow's consumer group.
        topics: of the flow's events that are handled.
    """

    def __init__(self, reader: Reader, group: str, topics: Iterable[Topic]) -> None:
        self._reader = reader
        self._group = group
        self._topics = list(topics)
        self._positions: dict[str, bytes | None] = {}
        self._read: dict[tuple[str, int], int] = {}

    async def positions(self) -> dict[str, bytes | None]:
        """Return the durable positions of the flow's sources, by their full names.

        Raises:
            BrokerError: the brokers do not answer.
        """
        topic = state_topic(self._group)
        async for record in self._reader.records([topic], after=self._read):
            self._read[topic, record.partition] = record.offset + 1
            source = (record.key or b"").decode()
            try:
                state = SourceState.decode(source, record.value)
            except StateCorrupt:
                self._positions.pop(source, None)  # its worker says so
            else:
                self._positions[source] = state.raw_position
        return self._positions

    async def is_handled(self) -> bool:
        """Say whether all events were handled, and none waits for another try.

        Raises:
            BrokerError: the brokers do not answer.
        """
        # In this order: what is handled by now has written its outputs by now.
        handled = await self._reader.committed(self._group)
        ends = await self._reader.ends([topic.name for topic in self._topics])
        if any(handled.get(place, 0) < end for place, end in ends.items()):
            return False
        waiting = set()
        parked = [parked_name(topic.own_name) for topic in self._topics]
        async for record in self._reader.records(parked):
            entry = (record.topic, record.partition, record.key)
            if record.value is None:
                waiting.discard(entry)
            else:
                waiting.add(entry)
        return not waiting


async def until_played(
    settings: Settings, brokers: str, pipelines: Pipelines, playback: Playback
) -> None:
    """Wait until a recording is through, on whichever workers, and all that came of it is handled.

    Arguments:
        settings: of the flow that plays it.
        brokers: `host:port,...`.
        pipelines: its managers.
        playback: of the recording.
    """
    topics = [topic for topic, _ in pipelines.protocol.graph.subscribed()]
    # A worker that is stopped while it joins its group says so in many words.
    await asyncio.sleep(START_SECONDS)
    while True:
        try:
            async with Reader(brokers, security=connection_options(settings)) as reader:
                completion = Completion(reader, settings.group, topics)
                while not playback.is_through(await completion.positions()):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS)
                while not await completion.is_handled():  # noqa: ASYNC110 - nobody tells it
                    await asyncio.sleep(LOOK_SECONDS)
                return
        except BrokerError as error:
            logger.warning("whether the recording is through cannot be seen now: %s", error)
            await asyncio.sleep(LOOK_SECONDS)


async def stopped_after(
    watch: Coroutine[Any, Any, None], run: Coroutine[Any, Any, None], stop: Callable[[], None]
) -> None:
    """Await the run of a worker, and stop it when `watch` has ended."""

    async def look() -> None:
        await watch
        logger.info("the recording is through, and everything is handled")
        stop()

    looking = asyncio.create_task(look(), name="wait for the end of the recording")
    looking.add_done_callback(lambda _: watch.close())
    try:
        await run
    finally:
        await stop_task(looking, STOP_SECONDS)
