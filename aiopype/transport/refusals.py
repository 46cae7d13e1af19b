"""What errors of a transaction mean: try again, or never again."""

from __future__ import annotations

from aiokafka import errors as kafka_errors

from aiopype.errors import BrokerError, DeliveryError, OutputRefused
from aiopype.transport.producer import FINAL

__all__ = ["FAILURES", "translated"]

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
    if isinstance(error, kafka_errors.ProducerFenced):
        return DeliveryError(f"{text}; another worker has taken over meanwhile")
    return OutputRefused(text) if isinstance(error, _REFUSED) else DeliveryError(text)
