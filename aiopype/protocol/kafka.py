"""The protocol on Kafka: an emit of a source goes to its outbox, and from there to its topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiopype.errors import EmitError, GraphError
from aiopype.event import Emitted, Key
from aiopype.protocol.wiring import Wiring
from aiopype.topics import Topic

__all__ = ["AsyncProtocol", "SourceOutbox"]


class SourceOutbox(Protocol):
    """Where the events of one running source wait to be sent; the transport's is the one."""

    def put_nowait(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event, or raise OutboxFull."""

    async def put(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event when there is room."""

    async def put_all(self, events: Sequence[Emitted], position: bytes | None) -> None:
        """Take events, and a position, that become durable together, when there is room."""

    @property
    def position(self) -> bytes | None:
        """The last position that was given, or found when the source started."""

    @property
    def epoch(self) -> int:
        """How many owners the source has had."""

    def checkpoint(self, position: bytes) -> None:
        """Take the position that belongs to the next event."""

    async def flush(self) -> None:
        """Wait until what was put, and the last position, is durable."""


class AsyncProtocol(Wiring):
    """Makes each event a record of its Kafka topic and each subscription a Faust agent.

    The agents are the worker's (`aiopype.worker`); here is only what a component sees of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._outboxes: dict[str, SourceOutbox] = {}

    def on(
        self, component: str, event: str, handler: Callable[..., Any], *, once: bool = False
    ) -> None:
        """Subscribe a handler to an event; refuse `once`, which several workers cannot keep."""
        if once:
            raise GraphError(
                f"once({event!r}, ...) of {component!r} is refused on Kafka: events of one topic "
                "are handled on several workers and again after a crash, so none is the first; "
                "use on() and let the handler decide"
            )
        super().on(component, event, handler)

    def emit(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Put an event of a running source into its outbox, or raise OutboxFull."""
        self._outbox(topic.component).put_nowait(topic, key, value)

    async def emit_async(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Put an event of a running source into its outbox; wait for room."""
        await self._outbox(topic.component).put(topic, key, value)

    async def emit_all(
        self, component: str, events: Sequence[Emitted], position: bytes | None
    ) -> None:
        """Put events that belong together, and a position, into the source's outbox."""
        await self._outbox(component).put_all(events, position)

    def position(self, component: str) -> bytes | None:
        """Return where a running source is."""
        return self._outbox(component).position

    def checkpoint(self, component: str, position: bytes) -> None:
        """Take the position that belongs to the next event of a running source."""
        self._outbox(component).checkpoint(position)

    def epoch(self, component: str) -> int:
        """Return how many owners a running source has had."""
        return self._outbox(component).epoch

    async def flush(self, component: str) -> None:
        """Wait until what a running source emitted, and its last position, is durable."""
        await self._outbox(component).flush()

    def open_outbox(self, component: str, outbox: SourceOutbox) -> None:
        """Let `component`, a source that starts on this worker, emit."""
        self._outboxes[component] = outbox

    def close_outbox(self, component: str) -> None:
        """Refuse what `component` emits from now on: it no longer runs here."""
        self._outboxes.pop(component, None)

    def _outbox(self, component: str) -> SourceOutbox:
        try:
            return self._outboxes[component]
        except KeyError:
            raise EmitError(
                f"{component!r} is no source that runs on this worker now, and emits outside of a "
                "handler; emit in a handler, or in a source's start()"
            ) from None
