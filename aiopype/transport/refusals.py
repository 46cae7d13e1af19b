"""What errors of brokers mean: try again, or never again; and what to do about it."""

from __future__ import annotations

from typing import Any

from aiokafka import errors as kafka_errors

from aiopype.errors import BrokerError, DeliveryError, OutputRefused
from aiopype.transport.producer import FINAL

__all__ = ["FAILURES", "check_group", "refused_group", "translated"]

#: What this client needs and has not been given, by what the brokers say.
_RIGHTS = {
    kafka_errors.TransactionalIdAuthorizationFailed: "transactional ids",
    kafka_errors.GroupAuthorizationFailedError: "groups",
    kafka_errors.TopicAuthorizationFailedError: "topics",
    kafka_errors.ClusterAuthorizationFailedError: "the cluster",
}

#: No second attempt changes these, nor those of writing.
_REFUSED = (
    *FINAL,
    kafka_errors.TransactionalIdAuthorizationFailed,
    kafka_errors.GroupAuthorizationFailedError,
    BrokerError,
)

#: What opening a producer or writing a transaction raises when it fails.
FAILURES = (kafka_errors.KafkaError, BrokerError, TimeoutError, OSError)


def translated(error: BaseException, doing: str) -> DeliveryError:
    """Return aiopype's error for one of `FAILURES`.

    Arguments:
        doing: what was being done, in words.
    """
    text = f"{doing}: {type(error).__name__} {error}".strip()
    if type(error) in _RIGHTS:
        text += f"; give this client the rights on {_RIGHTS[type(error)]} of docs/security.md"
    if isinstance(error, kafka_errors.ProducerFenced):
        return DeliveryError(f"{text}; another worker has taken over meanwhile")
    return OutputRefused(text) if isinstance(error, _REFUSED) else DeliveryError(text)


def check_group(coordinator: Any, group: str) -> None:
    """Raise what aiokafka has heard of a group: it tells only those who ask.

    Raises:
        BrokerError: this client may not be a member.
        KafkaError: whatever else.
    """
    try:
        coordinator.check_errors()
    except kafka_errors.GroupAuthorizationFailedError as error:
        raise refused_group(group) from error


def refused_group(group: str) -> BrokerError:
    """Return the error of a client that may not be a member of its group."""
    return BrokerError(
        f"this client may not join the group {group!r}; give it the right to read and describe it "
        "(docs/security.md)"
    )
