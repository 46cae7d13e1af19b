"""What the topics that are written to take: they exist, and their largest record is known."""

from __future__ import annotations

from collections.abc import Iterable

from aiopype.event import Emitted
from aiopype.graph import Graph
from aiopype.topics import Topic
from aiopype.transport.admin import Admin

__all__ = ["Limits"]


class Limits:
    """Has the topics of a flow created and looked at before anything is written to them.

    Arguments:
        graph: its `unresolved` topics are those to look at.
        admin: creates and describes them.
    """

    def __init__(self, graph: Graph, admin: Admin) -> None:
        self._graph = graph
        self._admin = admin
        self._refused: dict[Topic, int] = {}

    async def prepare(self) -> None:
        """Create and look at topics that are not known yet.

        Raises:
            BrokerError: a topic cannot be created or seen.
            KafkaError, TimeoutError: no answer.
        """
        if self._graph.unresolved:
            await self._admin.ensure(self._graph.unresolved)

    def look_again(self, emitted: Iterable[Emitted]) -> bool:
        """Say whether to handle these events again: the broker has refused one as too large.

        True where the limit may have been changed since it was asked for; the next `prepare` asks
        again, and what is larger then is refused where it is emitted.
        """
        topics = {event[0] for event in emitted}
        if all(self._refused.get(topic) == topic.largest for topic in topics):
            return False
        self._refused |= {topic: topic.largest for topic in topics}
        self._graph.unresolved |= topics
        return True
