"""What the coordinator of a consumer group says of its members."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from aiopype.transport.stored import Group, Joined

__all__ = ["describe"]

#: What a group is in that has nothing to decide; one that does not exist is dead.
_SETTLED = {"Stable", "Empty", "Dead"}

#: Of brokers since Kafka 4, of a group that does not exist.
_NO_SUCH_GROUP = 69

#: Between two questions, while a coordinator moves or reads what it has.
_AGAIN_SECONDS = 0.2


async def describe(admin: Any, name: str) -> Group:
    """Return a group as it is now; one that does not exist has no members.

    Arguments:
        admin: an AIOKafkaAdminClient that is connected.

    Raises:
        KafkaError: the brokers refuse to tell. While none is the coordinator this waits: give it a
            time limit.
    """
    while True:
        try:
            ((answer,),) = [found.groups for found in await admin.describe_consumer_groups([name])]
            if answer[0] == _NO_SUCH_GROUP:
                return Group(True, ())
            if answer[0]:
                raise kafka_errors.for_code(answer[0])(f"describing group {name}")
        except kafka_errors.KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            _, _, state, _, _, members, *_ = answer
            return Group(state in _SETTLED, tuple(_joined(*member[:5]) for member in members))


def _joined(name: str, client: str, host: str, metadata: bytes, assignment: bytes) -> Joined:
    said = _decoded(ConsumerProtocolMemberMetadata, metadata)
    given = _decoded(ConsumerProtocolMemberAssignment, assignment)
    return Joined(
        host.lstrip("/"),
        said.user_data or b"" if said else b"",
        given.user_data or b"" if given else b"",
        client,
        name,
        tuple((topic, number) for topic, numbers in given.assignment for number in numbers)
        if given
        else (),
    )


def _decoded(kind: Any, raw: bytes) -> Any:
    try:
        return kind.decode(raw)
    except ValueError:  # so aiokafka says that bytes are missing; a group may be anybody's
        return None
