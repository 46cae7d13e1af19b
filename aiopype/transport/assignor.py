"""The assignor of the group that elects the owners of sources: it spreads names, no partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from aiopype.ownership import Member, spread

__all__ = ["SourceAssignor"]


class SourceAssignor:
    """What aiokafka asks of an assignor, for one member of the group.

    Each member says of itself what it can run and has (its metadata's user data); the one that the
    broker chose as leader spreads the sources over all and says to each what is its own (the
    assignment's user data). Partitions of the topic that the group is subscribed to are nobody's.

    An instance where aiokafka's own are classes: what it says of its member changes.

    Arguments:
        member: returns what this member says of itself now.
    """

    name = "aiopype.sources"

    def __init__(self, member: Callable[[], Member]) -> None:
        self._member = member
        self.assigned: frozenset[str] = frozenset()

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Return what this member says when it joins."""
        return ConsumerProtocolMemberMetadata(0, list(topics), self._member().encode())

    def assign(
        self, _cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Spread the sources over the members; called on the leader."""
        known = {name: Member.decode(each.user_data) for name, each in members.items()}
        return {
            name: ConsumerProtocolMemberAssignment(0, [], msgspec.json.encode(sources))
            for name, sources in spread(known).items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Note what was assigned to this member."""
        self.assigned = frozenset(msgspec.json.decode(assignment.user_data, type=list[str]))
