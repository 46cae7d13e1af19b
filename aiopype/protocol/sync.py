"""The protocol in process: an emit of a source runs the pipeline to its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from aiopype.errors import EmitError
from aiopype.event import Emitted, Headers, Key, Record, Stamp, headers_of, key_bytes
from aiopype.execution import Failure, Outcome, run, run_async
from aiopype.graph import Subscription
from aiopype.protocol.wiring import Wiring
from aiopype.settlement import Origin, dead_letter
from aiopype.topics import Topic

if TYPE_CHECKING:
    from aiopype.tracing.spans import Trace, Tracing

__all__ = ["SyncProtocol"]


class _Record(NamedTuple):
    """An event on its way to its handlers, encoded as it would be on Kafka."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    offset: int = -1

    @property
    def headers(self) -> Headers:
        """Those that it would have on Kafka."""
        return headers_of(self.timestamp)


_Pending = deque[tuple[Subscription, Record]]


class SyncProtocol(Wiring):
    """Runs handlers at once, in this process, without Kafka.

    Events go through the codec as on Kafka, so that what works here works there. What a handler
    emits is handled after it has ended, first in first out, so that each topic keeps its order.

    A handler that raises is called again as its component's `retry` says, and everything waits for
    it; then its event becomes a dead letter, an `error` event of the component, and the pipeline
    goes on.

    Arguments:
        sleep: waits so many seconds before the next try, in `emit`.
        sleep_async: the same in `emit_async`.
    """

    def __init__(
        self,
        sleep: Callable[[float], None] = time.sleep,
        sleep_async: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__()
        self._positions: dict[str, bytes] = {}
        self._pending: dict[str, bytes] = {}
        self._sleep = sleep
        self._sleep_async = sleep_async

    def emit(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Run the pipeline behind an event to its end. Nothing a handler raises comes back.

        Raises:
            EmitError: a handler on the way is a coroutine function: only `emit_async` can wait.
        """
        with self._traced(topic.component, 1) as trace:
            pending = self._first(topic, key, value, trace)
            position = self._pending.pop(topic.component, None)
            self._run_functions(pending)
        if position is not None:
            self._positions[topic.component] = position

    def _run_functions(self, pending: _Pending) -> None:
        while pending:
            subscription, record = pending.popleft()
            if subscription.is_coroutine:
                raise EmitError(
                    f"{subscription.name} is a coroutine function, which emit() cannot wait for; "
                    "use `await emit_async(...)` in the source"
                )
            if self.tracing is None:
                outcome = run(subscription, record)
            else:
                with self._begun(self.tracing, subscription, record) as (record, trace):
                    outcome = run(subscription, record)
                    _note(outcome, trace)
            if outcome.failures:
                self._follow(self._try_again(outcome.failures[0]), pending)
            else:
                self._follow(outcome.emitted, pending)

    async def emit_async(self, topic: Topic, key: Key | None, value: bytes) -> None:
        """Run the pipeline behind an event to its end, awaiting coroutine handlers.

        Nothing a handler raises comes back.
        """
        position = self._pending.pop(topic.component, None)
        with self._traced(topic.component, 1) as trace:
            await self._run(self._first(topic, key, value, trace))
        if position is not None:
            self._positions[topic.component] = position

    async def emit_all(
        self, component: str, events: Sequence[Emitted], position: bytes | None
    ) -> None:
        """Run the pipeline behind each of these events to its end, then keep the position."""
        pending = self._pending.pop(component, None)
        with self._traced(component, len(events)) as trace:
            for topic, key, value, _, _ in events:
                assert value is not None
                await self._run(self._first(topic, key, value, trace))
        position = pending if position is None else position
        if position is not None:
            self._positions[component] = position

    def position(self, component: str) -> bytes | None:
        """Return where a source is: as long as this process lasts."""
        return self._pending.get(component, self._positions.get(component))

    def checkpoint(self, component: str, position: bytes) -> None:
        """Take the position that counts when the next event of a source has run to its end."""
        self._pending[component] = position

    def epoch(self, component: str) -> int:
        """Return 1: in process a source never moves."""
        return 1

    async def flush(self, component: str) -> None:
        """Keep the last position; what was emitted has run to its end already."""
        if component in self._pending:
            self._positions[component] = self._pending.pop(component)

    def forget(self, component: str) -> None:
        """Drop a position whose event was never emitted: the source failed before."""
        self._pending.pop(component, None)

    async def _run(self, pending: _Pending) -> None:
        while pending:
            subscription, record = pending.popleft()
            if self.tracing is None:
                outcome = await _run_any(subscription, record)
            else:
                with self._begun(self.tracing, subscription, record) as (record, trace):
                    outcome = await _run_any(subscription, record)
                    _note(outcome, trace)
            if outcome.failures:
                self._follow(await self._try_again_async(outcome.failures[0]), pending)
            else:
                self._follow(outcome.emitted, pending)

    def _try_again(self, failure: Failure) -> list[Emitted]:
        trial = _Trial(failure)
        while (delay := trial.delay()) is not None:
            self._sleep(delay)
            if trial.ends_with(run(failure.subscription, failure.record)):
                break
        return trial.emitted

    async def _try_again_async(self, failure: Failure) -> list[Emitted]:
        trial = _Trial(failure)
        while (delay := trial.delay()) is not None:
            await self._sleep_async(delay)
            if trial.ends_with(await run_async(failure.subscription, failure.record)):
                break
        return trial.emitted

    def _first(self, topic: Topic, key: Key | None, value: bytes, trace: Trace | None) -> _Pending:
        pending: _Pending = deque()
        raw = None if key is None else key_bytes(key)
        now = int(time.time() * 1000)
        stamp = now if trace is None else Stamp(now, trace.headers)
        self._enqueue(topic, _Record(raw, value, stamp), pending)
        return pending

    def _traced(self, component: str, count: int) -> AbstractContextManager[Trace | None]:
        """Return the span of what a source emits together; it lasts until all is handled."""
        tracing = self.tracing
        return (tracing and tracing.of_source(component, count)) or nullcontext()

    @staticmethod
    @contextmanager
    def _begun(
        tracing: Tracing, subscription: Subscription, record: Record
    ) -> Iterator[tuple[Record, Trace | None]]:
        """Give a record, with its span if it is traced: spans that the handler opens are its."""
        begun = tracing.of_batch(subscription.topic, None, [record])
        if begun is None:
            yield record, None
            return
        trace, (record,) = begun
        with trace, trace.current():
            yield record, trace

    def _follow(self, emitted: Iterable[Emitted], pending: _Pending) -> None:
        for topic, key, value, timestamp, _inherited in emitted:
            self._enqueue(topic, _Record(key, value, timestamp), pending)

    def _enqueue(self, topic: Topic, record: _Record, pending: _Pending) -> None:
        subscriptions = list(self.graph.subscriptions(topic))
        figures = self.progress.topics[topic.name]
        figures.emitted += 1
        if subscriptions:
            figures.handled += 1
        for subscription in subscriptions:
            if subscription.once:
                self.graph.unsubscribe(subscription)
            pending.append((subscription, record))


async def _run_any(subscription: Subscription, record: Record) -> Outcome:
    if subscription.is_awaited:
        return await run_async(subscription, record)
    return run(subscription, record)


def _note(outcome: Outcome, trace: Trace | None) -> None:
    if trace is not None and outcome.failures:
        trace.fail(outcome.failures)


class _Trial:
    """An event whose handler failed, until it goes well or becomes a dead letter.

    Attributes:
        emitted: what came of it.
    """

    def __init__(self, failure: Failure) -> None:
        self.emitted: list[Emitted] = []
        self._failure = failure
        self._tries = 1
        self._began = time.monotonic()

    def delay(self) -> float | None:
        """Return the seconds until the next try; None when it has become a dead letter."""
        subscription, _, error = self._failure
        assert error is not None
        waited = time.monotonic() - self._began
        retry = subscription.processor.retry
        delay: float | None = retry.delay(error, self._tries, waited)
        if delay is None:
            origin = Origin(subscription.topic.name, None)
            self.emitted = [dead_letter(origin, self._failure, self._tries, logging.ERROR)]
        return delay

    def ends_with(self, outcome: Outcome) -> bool:
        """Take the outcome of another try; say whether it went well."""
        self._tries += 1
        if outcome.failures:
            self._failure = outcome.failures[0]
            return False
        self.emitted = outcome.emitted
        return True
