"""What commands read and write on the brokers; known without loading a Kafka client."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Group", "Joined", "Outgoing", "Stored"]


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


class Joined(NamedTuple):
    """A member of a consumer group.

    Attributes:
        host: the address it is connected from.
        said: what it said of itself when it joined: its metadata's user data.
        given: what it was given: its assignment's user data; empty while that is being decided.
    """

    host: str
    said: bytes
    given: bytes


class Group(NamedTuple):
    """A consumer group as its coordinator describes it.

    Attributes:
        is_settled: whether nothing is being assigned anew; of members nothing is known then.
    """

    is_settled: bool
    members: tuple[Joined, ...]
