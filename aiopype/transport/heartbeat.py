"""Asking a group whether it still counts on this member."""

from __future__ import annotations

from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.protocol.group import HeartbeatRequest

from aiopype.errors import DeliveryError, OwnershipLost

__all__ = ["ask_group"]

_SAME = (0, kafka_errors.RebalanceInProgressError.errno)
_NEXT = kafka_errors.IllegalGenerationError.errno
_UNKNOWN = kafka_errors.UnknownMemberIdError.errno


async def ask_group(coordinator: Any) -> bool:
    """Return when the group counts on this member: whether still in the generation it knows of.

    It is not when the member is joining and only the broker knows of the next one yet.

    aiokafka's own heartbeat would do more: it takes that answer for the end of the membership and
    forgets the member's id, and the group waits a whole session for the one it has forgotten.

    Arguments:
        coordinator: aiokafka's, of a consumer.

    Raises:
        OwnershipLost: the group went on without it.
        DeliveryError: no answer. A limit in time is the caller's; to the group each of these is a
            sign of life, so whoever gets no answer must not ask again and again.
    """
    generation, member = coordinator.generation, coordinator.member_id
    if generation < 0:
        raise OwnershipLost("the group went on without this worker")
    try:
        await coordinator.ensure_coordinator_known()
        request = HeartbeatRequest(coordinator.group_id, generation, member)
        answer = await coordinator._send_req(request)
    except (kafka_errors.KafkaError, OSError) as error:
        raise DeliveryError(f"asking the group: {error!r}") from error
    code = answer.error_code
    if code == _UNKNOWN:
        raise OwnershipLost("the group went on without this worker")
    if code not in {*_SAME, _NEXT}:
        raise DeliveryError(f"asking the group: {kafka_errors.for_code(code).__name__}")
    return bool(code != _NEXT)
