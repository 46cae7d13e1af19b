"""What commands read and write on the brokers; known without loading a Kafka client."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Extent", "Group", "Joined", "Outgoing", "Span", "Stored"]


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
    headers: tuple[tuple[str, bytes], ...] = ()


class Joined(NamedTuple):
    """A member of a consumer group.

    Attributes:
        host: the address it is connected from.
        said: what it said of itself when it joined: its metadata's user data.
        given: what it was given: its assignment's user data; empty while that is being decided.
        client: what its client calls itself.
        id: what the group calls it.
        partitions: those that it was given, by topic and number.
    """

    host: str
    said: bytes
    given: bytes
    client: str = ""
    id: str = ""
    partitions: tuple[tuple[str, int], ...] = ()


class Group(NamedTuple):
    """A consumer group as its coordinator describes it.

    Attributes:
        is_settled: whether nothing is being assigned anew; of members nothing is known then.
    """

    is_settled: bool
    members: tuple[Joined, ...]


class Span(NamedTuple):
    """Offsets of a partition, the last one excluded."""

    begin: int
    end: int


class Extent(NamedTuple):
    """From where to where a partition goes.

    Attributes:
        begin: its first offset.
        end: behind its last one, for readers of committed records.
        high: behind its last one, with those of transactions that have not ended.
    """

    begin: int
    end: int
    high: int
