"""What both protocols share: who is subscribed to what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiopype.event import Emitted, Key
from aiopype.graph import Graph
from aiopype.progress import Progress
from aiopype.topics import Topic

if TYPE_CHECKING:
    from aiopype.tracing.spans import Tracing

__all__ = ["Wiring"]


class Wiring(ABC):
    """Components and subscriptions of a flow, filled by its managers.

    Attributes:
        graph: the flow as data.
        components: in the order they were built.
        progress: what becomes of the flow's events in this process.
        tracing: makes spans of what happens to them; None without the setting.
    """

    tracing: Tracing | None = None

    def __init__(self) -> None:
        self.graph = Graph()
        self.components: list[Any] = []
        self.progress = Progress()
        self._ended: set[str] = set()

    def add(self, component: Any) -> dict[str, Topic]:
        """Take a component in; return its topics by event, which grow as events become known."""
        topics = self.graph.add(component.name)
        self.components.append(component)
        return topics

    def topic(self, component: str, event: str) -> Topic:
        """Return the topic of an event."""
        return self.graph.topic(component, event)

    def on(
        self, component: str, event: str, handler: Callable[..., Any], *, once: bool = False
    ) -> None:
        """Subscribe a handler to an event; raise GraphError when that cannot be."""
        self.graph.subscribe(component, event, handler, once=once)

    def listeners(self, component: str, event: str) -> list[Callable[..., Any]]:
        """Return the handlers subscribed to an event, in order."""
        topic = self.graph.find(component, event)
        found = [] if topic is None else self.graph.subscriptions(topic)
        return [subscription.handler for subscription in found]

    def remove_all_listeners(self, component: str, event: str | None = None) -> None:
        """Remove the subscriptions to one event, or to all, of a component."""
        self.graph.remove_all(component, event)

    @abstractmethod
    def emit(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event of a source without waiting."""

    @abstractmethod
    async def emit_async(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Take an event of a source; wait for room."""

    @abstractmethod
    async def emit_all(
        self, component: str, events: Sequence[Emitted], position: bytes | None
    ) -> None:
        """Take events of a source, and its position if it has one, that belong together."""

    @abstractmethod
    def position(self, component: str) -> bytes | None:
        """Return the last position that a running source has set; None if there is none."""

    @abstractmethod
    def checkpoint(self, component: str, position: bytes) -> None:
        """Take the position that belongs to the next event of a source."""

    @abstractmethod
    def epoch(self, component: str) -> int:
        """Return how many owners a running source has had."""

    @abstractmethod
    async def flush(self, component: str) -> None:
        """Wait until what a source emitted, and its last position, is durable."""

    def forget(self, component: str) -> None:  # noqa: B027 - on Kafka the outbox does it
        """Drop a position that no event followed: the source failed before."""

    def begin(self, component: str) -> None:
        """Note that a source is to run again, also one that had ended."""
        self._ended.discard(component)

    def end(self, component: str) -> None:
        """Note that a source has ended."""
        self._ended.add(component)

    def is_done(self, component: str) -> bool:
        """Say whether a source has ended."""
        return component in self._ended

    def freeze(self) -> None:
        """Close the wiring: the flow starts."""
        self.graph.freeze()
