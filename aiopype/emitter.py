"""What a component emits through: the outbox of the event being handled.

One instance of a component serves many partitions at once, so what it emits belongs to the event
that is being handled, not to the instance. A context variable holds the outbox of that event: it
follows coroutines and is not seen by other partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from aiopype.errors import EmitError, OutputTooLarge
from aiopype.event import Emitted, Key, key_bytes, stamped
from aiopype.graph import manager_of
from aiopype.topics import Topic

__all__ = ["MessageHandler", "Outbox", "check_record", "current_outbox"]


class Outbox:
    """The events that a handler emitted, in order, until they are made durable or dropped.

    The one that runs the handler sets `key` and `timestamp` before each event, and `is_open` only
    while the handler runs: an emit from something that outlived its handler raises instead of
    being counted to another event.
    """

    __slots__ = ("emitted", "is_open", "key", "timestamp")

    def __init__(self, emitted: list[Emitted], key: bytes | None, timestamp: int) -> None:
        self.emitted = emitted
        self.key = key
        self.timestamp = timestamp
        self.is_open = True

    def append(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Add an event; it leaves when its handler has ended well.

        Raises:
            EmitError: the handler has ended already, `key` is of a wrong type, or there is none
                and the topic is compacted.
            OutputTooLarge: the event's topic takes no value of this size.
        """
        if not self.is_open:
            raise EmitError(
                f"{topic.name} was emitted after its handler had ended; "
                "await what the handler starts before it returns"
            )
        own = self.key
        raw = own if key is None else key_bytes(key)
        size = len(value) if raw is None else len(raw) + len(value)
        if size > topic.largest or raw is None:
            check_record(topic, raw, size)
        self.emitted.append((topic, raw, value, self.timestamp, key is None or raw == own))

    def stamp_last(self, timestamp: int) -> None:
        """Give the event that was added last a time of its own, in milliseconds since 1970."""
        topic, key, value, before, inherited = self.emitted[-1]
        self.emitted[-1] = (topic, key, value, stamped(timestamp, before), inherited)


def check_record(topic: Topic, key: bytes | None, size: int) -> None:
    """Refuse an event that its topic does not take.

    Arguments:
        size: of key and value, in bytes.

    Raises:
        EmitError: it has no key, and the topic is compacted.
        OutputTooLarge: it is larger than the topic's largest.
    """
    if key is None and topic.needs_key:
        raise EmitError(
            f"event {topic.full_name} has no key, and its topic is compacted, which keeps "
            "the last event of each key; emit it with key=..."
        )
    if size > topic.largest:
        raise OutputTooLarge(
            f"event {topic.full_name} has {size:,} bytes, and its topic takes "
            f"{topic.largest:,} at most; raise its `max.message.bytes` in "
            f"topics/{manager_of(topic.full_name)}.toml, or emit less"
        )


#: The outbox of the event being handled in this context; None in a source.
current_outbox: ContextVar[Outbox | None] = ContextVar("current_outbox", default=None)


class MessageHandler(Protocol):
    """What a component needs of its protocol; SyncProtocol and AsyncProtocol are the two.

    `emit` and `emit_async` are called only outside of handlers, by sources: inside a handler the
    outbox takes the event. So is all that is about positions.
    """

    @property
    def components(self) -> Sequence[Any]:
        """The components of the flow, in the order they were built."""

    def add(self, component: Any) -> dict[str, Topic]:
        """Take a component in; return its topics by event name."""

    def topic(self, component: str, event: str) -> Topic:
        """Return the topic of an event."""

    def on(
        self, component: str, event: str, handler: Callable[..., Any], *, once: bool = False
    ) -> None:
        """Subscribe a handler to an event."""

    def listeners(self, component: str, event: str) -> list[Callable[..., Any]]:
        """Return the handlers subscribed to an event, in order."""

    def remove_all_listeners(self, component: str, event: str | None = None) -> None:
        """Remove the subscriptions to one event, or to all, of a component."""

    def emit(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event of a source without waiting."""

    async def emit_async(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event of a source; wait for room."""

    async def emit_all(
        self, component: str, events: Sequence[Emitted], position: bytes | None
    ) -> None:
        """Take events of a source, and its position if it has one, that belong together."""

    def position(self, component: str) -> bytes | None:
        """Return the last position that a running source has set; None if there is none."""

    def checkpoint(self, component: str, position: bytes) -> None:
        """Take the position that belongs to the next event of a source."""

    def epoch(self, component: str) -> int:
        """Return how many owners a running source has had."""

    async def flush(self, component: str) -> None:
        """Wait until what a source emitted, and its last position, is durable."""

    def is_done(self, component: str) -> bool:
        """Say whether a source has ended."""
