"""Blocking handlers: a batch is handled in a thread, a slice at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from time import monotonic

from aiopype.emitter import Outbox
from aiopype.event import Emitted, Record
from aiopype.execution.calls import call
from aiopype.execution.outcome import Failure, Outcome, Times, holds_its_key
from aiopype.graph import Subscription

__all__ = ["run_in_threads"]

#: How long one batch keeps a thread before others get it. To hand records over to a thread and
#: back costs about 0.1 ms, so it is not done for each.
SLICE_SECONDS = 0.05


async def run_in_threads(
    subscription: Subscription,
    records: Sequence[Record],
    held: set[bytes],
    until: float,
    threads: Executor | None,
) -> Outcome:
    """Run a function handler over records in order, in a thread; see `run_batch`."""
    work = _Work(subscription, records, held, until)
    loop = asyncio.get_running_loop()
    try:
        while work.is_wanted:
            await loop.run_in_executor(threads, copy_context().run, work.go_on)
    finally:
        work.stop()
    return Outcome(work.handled, work.emitted, work.failures, work.times.seconds, work.times.slow)


class _Work:
    """A batch on its way through threads, in one at a time.

    The loop looks at it between two slices only. When it is stopped the thread may still be in a
    handler: what that emits is refused, and nobody looks at this any more.
    """

    def __init__(
        self, subscription: Subscription, records: Sequence[Record], held: set[bytes], until: float
    ) -> None:
        self.is_wanted = bool(records)
        self.handled = 0
        self.emitted: list[Emitted] = []
        self.failures: list[Failure] = []
        self.times = Times()
        self._subscription = subscription
        self._records = records
        self._held = held
        self._until = until
        self._outbox: Outbox | None = None

    def stop(self) -> None:
        self.is_wanted = False
        if self._outbox is not None:
            self._outbox.is_open = False

    def go_on(self) -> None:
        last = monotonic()
        turn = last + SLICE_SECONDS
        while self.is_wanted:
            self._handle(self._records[self.handled])
            self.handled += 1
            now = monotonic()
            self.times.add(now - last)
            last = now
            if self.handled == len(self._records) or now >= self._until:
                self.is_wanted = False
            if now >= turn:
                break

    def _handle(self, record: Record) -> None:
        error: Exception | None = None
        if record.key is None or record.key not in self._held:
            emitted: list[Emitted] = []
            self._outbox = Outbox(emitted, record.key, record.timestamp)
            error = call(self._subscription, record, self._outbox)
            if error is None:
                self.emitted += emitted
                return
            if record.key is not None and holds_its_key(self._subscription, error):
                self._held.add(record.key)
        self.failures.append(Failure(self._subscription, record, error))
