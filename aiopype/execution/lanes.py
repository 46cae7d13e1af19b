"""Several events of a batch at once, those of one key one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from itertools import chain
from time import monotonic
from typing import Any

from aiopype.emitter import Outbox, current_outbox
from aiopype.event import Emitted, Record
from aiopype.execution.calls import SLICE_SECONDS, TimeLimit, call
from aiopype.execution.outcome import Failure, Outcome, Times, holds_its_key
from aiopype.graph import Subscription

__all__ = ["run_concurrently"]


async def run_concurrently(
    subscription: Subscription,
    records: Sequence[Record],
    held: set[bytes],
    until: float,
    threads: Executor | None,
) -> Outcome:
    """Run a handler over records, as many at once as its component says; see `run_batch`.

    Records are taken in order until the time is over, then those taken are waited for, so that
    `handled` counts from the first on. What they emitted comes out in their order.
    """
    workers = min(subscription.processor.concurrency, len(records))
    lanes = _Lanes(subscription, records, held, until, workers)
    work = _in_coroutines(lanes) if subscription.is_coroutine else _in_threads(lanes, threads)
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(work(), name=f"{subscription.name} at once {number}")
    return lanes.outcome()


class _Lanes:
    """Hands the records of a batch out to workers, in order; of one key one at a time.

    It takes in twice as many as there are workers: one key's events, of which only the first can
    be worked on, must not be all that the workers can choose from, and all that are taken in are
    waited for at the end.
    """

    def __init__(
        self,
        subscription: Subscription,
        records: Sequence[Record],
        held: set[bytes],
        until: float,
        workers: int,
    ) -> None:
        self.subscription = subscription
        self.turn = monotonic() + SLICE_SECONDS
        self.times = Times()
        self._records = records
        self._held = held
        self._until = until
        self._workers = workers
        self._open = 0
        self._emitted: list[list[Emitted]] = []  # of each record that was taken in
        self._errors: dict[int, Exception | None] = {}
        self._behind: dict[bytes, deque[int]] = {}  # a key is here while an event of it is open
        self._ready: asyncio.Queue[int | None] = asyncio.Queue()
        self._take_in()

    def outcome(self) -> Outcome:
        failures = [
            Failure(self.subscription, self._records[place], error)
            for place, error in sorted(self._errors.items())
        ]
        emitted = list(chain.from_iterable(self._emitted))
        times = self.times
        return Outcome(len(self._emitted), emitted, failures, times.seconds, times.slow)

    async def next(self) -> tuple[int, Record] | None:
        """Return the next record that may be worked on, with its place; None at the end."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # the handler went on as if nothing were
        if monotonic() >= self.turn:
            # Each worker that is ready ends the event it is at; then the loop is round.
            asyncio.get_running_loop().call_soon(self._renew_turn)
            await asyncio.sleep(0)
        place = await self._ready.get()
        return None if place is None else (place, self._records[place])

    def done(self, place: int, emitted: list[Emitted], error: Exception | None) -> None:
        """Note what came of a record."""
        self._open -= 1
        key = self._records[place].key
        if error is None:
            self._emitted[place] = emitted
        else:
            self._errors[place] = error
            if key is not None and holds_its_key(self.subscription, error):
                self._held.add(key)
        if key is not None:
            self._follow(key)
        self._take_in()

    def _follow(self, key: bytes) -> None:
        behind = self._behind[key]
        if key in self._held:
            self._errors.update(dict.fromkeys(behind))
            self._open -= len(behind)
            behind.clear()
        if behind:
            self._ready.put_nowait(behind.popleft())
        else:
            del self._behind[key]

    def _take_in(self) -> None:
        while self._has_room():
            place = len(self._emitted)
            self._emitted.append([])
            key = self._records[place].key
            if key in self._held:
                self._errors[place] = None
                continue
            self._open += 1
            if key in self._behind:
                self._behind[key].append(place)
                continue
            if key is not None:
                self._behind[key] = deque()
            self._ready.put_nowait(place)
        if self._open == 0:
            for _ in range(self._workers):
                self._ready.put_nowait(None)

    def _has_room(self) -> bool:
        taken = len(self._emitted)
        if taken == len(self._records) or self._open >= 2 * self._workers:
            return False
        return taken == 0 or monotonic() < self._until

    def _renew_turn(self) -> None:
        self.turn = monotonic() + SLICE_SECONDS


_Work = Callable[[], Coroutine[Any, Any, None]]


def _in_coroutines(lanes: _Lanes) -> _Work:
    invoke = lanes.subscription.invoke

    async def handle(record: Record, limit: TimeLimit) -> Exception | None:
        error: Exception | None = None
        limit.began = monotonic()
        try:
            await invoke(record.value)
        except asyncio.CancelledError as cancelled:
            error = limit.failure(cancelled)
        except Exception as raised:  # noqa: BLE001 - whatever the user's code raises is a value
            error = raised
        lanes.times.add(monotonic() - limit.began)
        limit.began = float("inf")
        return limit.expired(error) if limit.cancels else error

    async def work() -> None:
        limit = TimeLimit(lanes.subscription)
        try:
            while (item := await lanes.next()) is not None:
                place, record = item
                emitted: list[Emitted] = []
                outbox = Outbox(emitted, record.key, record.timestamp)
                current_outbox.set(outbox)
                try:
                    error = await handle(record, limit)
                finally:
                    outbox.is_open = False
                lanes.done(place, emitted, error)
        finally:
            limit.close()

    return work


def _timed_call(
    subscription: Subscription, record: Record, outbox: Outbox
) -> tuple[Exception | None, float]:
    """Call a handler; return what it raised, and how long it took: not that a thread was free."""
    began = monotonic()
    error = call(subscription, record, outbox)
    return error, monotonic() - began


def _in_threads(lanes: _Lanes, threads: Executor | None) -> _Work:
    loop = asyncio.get_running_loop()

    async def work() -> None:
        while (item := await lanes.next()) is not None:
            place, record = item
            emitted: list[Emitted] = []
            outbox = Outbox(emitted, record.key, record.timestamp)
            context = copy_context()
            try:
                error, seconds = await loop.run_in_executor(
                    threads, context.run, _timed_call, lanes.subscription, record, outbox
                )
                lanes.times.add(seconds)
            finally:
                outbox.is_open = False  # a batch that is cancelled leaves the call behind
            lanes.done(place, emitted, error)

    return work
