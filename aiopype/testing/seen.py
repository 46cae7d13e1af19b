"""What a run has emitted, as a test looks at it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import msgspec

from aiopype.codec import decode
from aiopype.dead_letters import DeadLetter
from aiopype.topics import ERROR

__all__ = ["Record", "Seen"]

_decode_letter = msgspec.json.Decoder(DeadLetter).decode


class Record(NamedTuple):
    """An event as it is in its topic.

    Attributes:
        key: its bytes; None without one.
        value: its JSON.
        partition: of the topic on Kafka; None in process.
    """

    key: bytes | None
    value: bytes
    partition: int | None = None


class Seen:
    """Events by their full names, in the order in which they came."""

    def __init__(self) -> None:
        self._records: defaultdict[str, list[Record]] = defaultdict(list)

    def add(self, event: str, record: Record) -> None:
        """Add one."""
        self._records[event].append(record)

    def records(self, event: str) -> list[Record]:
        """Return the events of a full name as they are in their topic."""
        return list(self._records.get(event, ()))

    def arguments(self, event: str) -> list[tuple[Any, ...]]:
        """Return the arguments of the events of a full name, named ones as a dict at the end."""
        found = [decode(record.value) for record in self.records(event)]
        return [(*args, kwargs) if kwargs else args for args, kwargs in found]

    def letters(self) -> list[DeadLetter]:
        """Return the dead letters of all components."""
        names = [name for name in self._records if name.endswith(f".{ERROR}")]
        return [_decode_letter(record.value) for name in names for record in self.records(name)]
