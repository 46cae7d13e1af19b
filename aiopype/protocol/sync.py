"""The protocol in process: an emit of a source runs the pipeline to its end."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from aiopype.errors import EmitError, HandlerError
from aiopype.event import Key, key_bytes
from aiopype.execution import Outcome, run, run_async
from aiopype.graph import Subscription
from aiopype.protocol.wiring import Wiring
from aiopype.topics import Topic

__all__ = ["SyncProtocol"]


class _Record(NamedTuple):
    """An event on its way to its handlers, encoded as it would be on Kafka."""

    key: bytes | None
    value: bytes
    timestamp: int
    offset: int = -1


_Pending = deque[tuple[Subscription, _Record]]


class SyncProtocol(Wiring):
    """Runs handlers at once, in this process, without Kafka.

    Events go through the codec as on Kafka, so that what works here works there. What a handler
    emits is handled after it has ended, first in first out, so that each topic keeps its order.
    """

    def emit(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Run the pipeline behind an event to its end.

        Raises:
            HandlerError: a handler raised; what came of the event before it stays done.
            EmitError: a handler on the way is a coroutine function: only `emit_async` can wait.
        """
        pending = self._first(topic, key, value)
        while pending:
            subscription, record = pending.popleft()
            if subscription.is_coroutine:
                raise EmitError(
                    f"{subscription.name} is a coroutine function, which emit() cannot wait for; "
                    "use `await emit_async(...)` in the source"
                )
            self._follow(run(subscription, record), pending)

    async def emit_async(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Run the pipeline behind an event to its end, awaiting coroutine handlers.

        Raises:
            HandlerError: a handler raised; what came of the event before it stays done.
        """
        pending = self._first(topic, key, value)
        while pending:
            subscription, record = pending.popleft()
            if subscription.is_coroutine:
                outcome = await run_async(subscription, record)
            else:
                outcome = run(subscription, record)
            self._follow(outcome, pending)

    def _first(self, topic: Topic, key: Key | None, value: bytes) -> _Pending:
        pending: _Pending = deque()
        raw = None if key is None else key_bytes(key)
        self._enqueue(topic, _Record(raw, value, int(time.time() * 1000)), pending)
        return pending

    def _follow(self, outcome: Outcome, pending: _Pending) -> None:
        if outcome.failure is not None:
            raise HandlerError(str(outcome.failure)) from outcome.failure.error
        for topic, key, value, timestamp, _inherited in outcome.emitted:
            self._enqueue(topic, _Record(key, value, timestamp), pending)

    def _enqueue(self, topic: Topic, record: _Record, pending: _Pending) -> None:
        subscriptions = list(self.graph.subscriptions(topic))
        figures = self.progress.topics[topic.name]
        figures.emitted += 1
        if subscriptions:
            figures.handled += 1  # or it is an error, and ends its source
        for subscription in subscriptions:
            if subscription.once:
                self.graph.unsubscribe(subscription)
            pending.append((subscription, record))
