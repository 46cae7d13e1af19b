"""Records as commands read and write them; known without loading a Kafka client."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Outgoing", "Stored"]


class Stored(NamedTuple):
    """A record as it stands in a topic.

    Attributes:
        timestamp: in milliseconds since 1970.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Outgoing(NamedTuple):
    """A record to be written.

    Attributes:
        timestamp: in milliseconds since 1970.
    """

    topic: str
    partition: int
    timestamp: int
    key: bytes | None
    value: bytes
