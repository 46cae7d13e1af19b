"""The protocol on Kafka: an emit of a source goes to its outbox, and from there to its topic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from aiopype.errors import EmitError, GraphError
from aiopype.event import Key
from aiopype.protocol.wiring import Wiring
from aiopype.topics import Topic

__all__ = ["AsyncProtocol", "SourceOutbox"]


class SourceOutbox(Protocol):
    """Where the events of one running source wait to be sent; the transport's is the one."""

    def put_nowait(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event, or raise OutboxFull."""

    async def put(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event when there is room."""


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
        self._outbox(topic).put_nowait(topic, key, value)

    async def emit_async(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Put an event of a running source into its outbox; wait for room."""
        await self._outbox(topic).put(topic, key, value)

    def open_outbox(self, component: str, outbox: SourceOutbox) -> None:
        """Let `component`, a source that starts on this worker, emit."""
        self._outboxes[component] = outbox

    def close_outbox(self, component: str) -> None:
        """Refuse what `component` emits from now on: it no longer runs here."""
        self._outboxes.pop(component, None)

    def _outbox(self, topic: Topic) -> SourceOutbox:
        component = topic.component
        try:
            return self._outboxes[component]
        except KeyError:
            raise EmitError(
                f"{topic.name} was emitted outside of a handler, and {component!r} is no source "
                "that runs on this worker now; emit in a handler, or in a source's start()"
            ) from None
