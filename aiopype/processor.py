"""Processors: the components that handle events."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar

from aiopype.codec import encode
from aiopype.dead_letters import emitted_by_user
from aiopype.emitter import MessageHandler, Outbox, current_outbox
from aiopype.event import Key
from aiopype.retry import Retry
from aiopype.topics import ERROR

__all__ = ["Processor"]


class Processor:
    """Handles events and emits new ones.

    A method of a subclass becomes a handler when a manager subscribes it with `on`. One instance
    serves all partitions that this worker owns, at once where handlers are coroutines: keep what
    belongs to one event in local variables.

    Arguments:
        name: the full name, made with the manager's `build_processor_name`.
        handler: the flow's protocol, as the manager got it.

    Raises:
        GraphError: another component has the name already.
    """

    #: Events that nobody subscribes to but whose topics shall exist from the start.
    events: ClassVar[tuple[str, ...]] = ()

    #: How events whose handler raised are tried again before they become dead letters.
    retry: Retry = Retry()

    #: How many events of a partition its handlers work on at once; of one key always one.
    concurrency: int = 1

    #: Whether its handlers, functions, block (files, database drivers): they run in threads.
    blocking: bool = False

    #: Seconds after which a call of a coroutine handler is cancelled, and has failed.
    timeout_seconds: float = 60.0

    def __init__(self, name: str, handler: MessageHandler) -> None:
        self.name = name
        self.handler = handler
        self.logger = logging.getLogger(f"aiopype.{name}")
        self._topics = handler.add(self)
        for event in self.events:
            handler.topic(name, event)

    def on(self, event: str, handler: Callable[..., Any]) -> None:
        """Subscribe `handler`, a method of a component of the same manager, to `event` of this one.

        Handlers of one event run in the order they were subscribed.

        Raises:
            GraphError: the flow has started, or `handler` is not such a method.
        """
        self.handler.on(self.name, event, handler)

    def once(self, event: str, handler: Callable[..., Any]) -> None:
        """Subscribe `handler` to the first `event` of this process only.

        Raises:
            GraphError: on Kafka, where no process can know which event is the first.
        """
        self.handler.on(self.name, event, handler, once=True)

    def emit(self, event: str, /, *args: Any, key: Key | None = None, **kwargs: Any) -> None:
        """Emit `event` with these arguments.

        In a handler it is added to what the handled event brings forth: it leaves when the handler
        has ended well and is dropped when it fails; this never waits. The key is that of the
        handled event unless `key` is given. In a source it raises rather than wait.

        `emit("error", error, ...)`, with an exception or a text, makes a `DeadLetter` of its
        arguments, as the handlers of `error` events get it; what has no JSON form is told by its
        repr.

        Raises:
            CodecError: the arguments have no JSON form.
            OutputTooLarge: in a handler, when the event's topic takes no value of this size.
            OutboxFull: in a source on Kafka, when there is no room; use `emit_async`.
            EmitError: outside of handlers and running sources, or when a handler it would reach
                in process is a coroutine function.
        """
        topic = self._topics.get(event) or self.handler.topic(self.name, event)
        outbox = current_outbox.get()
        value = encode(args, kwargs) if event != ERROR else self._letter(args, kwargs)
        if outbox is None:
            self.handler.emit(topic, key, value)
            return
        outbox.append(topic, key, value)
        if event == ERROR:
            _stamp(outbox)

    async def emit_async(
        self, event: str, /, *args: Any, key: Key | None = None, **kwargs: Any
    ) -> None:
        """Emit `event` with these arguments; in a source, wait for room first.

        In a handler it is the same as `emit`. In process it returns when the pipeline has run to
        its end, on Kafka when the event is in the source's outbox.

        Raises:
            CodecError: the arguments have no JSON form.
            EmitError: outside of handlers and running sources.
        """
        topic = self._topics.get(event) or self.handler.topic(self.name, event)
        outbox = current_outbox.get()
        value = encode(args, kwargs) if event != ERROR else self._letter(args, kwargs)
        if outbox is None:
            await self.handler.emit_async(topic, key, value)
            return
        outbox.append(topic, key, value)
        if event == ERROR:
            _stamp(outbox)

    def _letter(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        return emitted_by_user(self.name, args, kwargs)

    def listeners(self, event: str) -> list[Callable[..., Any]]:
        """Return the handlers subscribed to `event`, in order."""
        return self.handler.listeners(self.name, event)

    def remove_all_listeners(self, event: str | None = None) -> None:
        """Remove the subscriptions to `event`, or to all events of this component.

        Raises:
            GraphError: the flow has started.
        """
        self.handler.remove_all_listeners(self.name, event)

    @property
    def is_done(self) -> bool:
        """Whether this component has nothing more to do: a source whose `start` has returned."""
        return self.handler.is_done(self.name)

    def done(self) -> bool:
        """Return `is_done`; the first aiopype had both."""
        return self.is_done

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def _stamp(outbox: Outbox) -> None:
    # With the time of an old event, retention would take the letter with what is as old.
    outbox.stamp_last(int(time.time() * 1000))
