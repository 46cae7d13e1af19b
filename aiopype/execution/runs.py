"""Run a subscription's handler over events; a failure is a value, not an exception.

Nothing a handler raises passes through here: the caller gets an `Outcome` and decides. Cancelling
does pass, as an end of the whole batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from time import monotonic

from aiopype.emitter import Outbox, current_outbox
from aiopype.event import Emitted, Record
from aiopype.execution.calls import SLICE_SECONDS, TimeLimit, call, call_async, refuse_awaitable
from aiopype.execution.lanes import run_concurrently
from aiopype.execution.outcome import SLOW_SECONDS, Failure, Outcome, holds_its_key
from aiopype.execution.threads import run_in_threads
from aiopype.graph import Subscription

__all__ = ["Failure", "Outcome", "run", "run_async", "run_batch"]


def run(subscription: Subscription, record: Record) -> Outcome:
    """Run a function handler over one record."""
    emitted: list[Emitted] = []
    error = call(subscription, record, Outbox(emitted, record.key, record.timestamp))
    return _outcome_of(subscription, record, emitted, error)


async def run_async(subscription: Subscription, record: Record) -> Outcome:
    """Run a handler of any kind over one record."""
    if not subscription.is_coroutine:
        return await run_batch(subscription, [record])
    emitted: list[Emitted] = []
    outbox = Outbox(emitted, record.key, record.timestamp)
    return _outcome_of(
        subscription, record, emitted, await call_async(subscription, record, outbox)
    )


async def run_batch(
    subscription: Subscription,
    records: Sequence[Record],
    *,
    seconds: float = float("inf"),
    turns: asyncio.Lock | None = None,
    held: Collection[bytes] = (),
    threads: Executor | None = None,
) -> Outcome:
    """Run a handler over records until all are handled, or no more is begun after `seconds`.

    Events of one key are handled one after the other, in order. When one fails that may be tried
    again, later ones of its key are not tried, and are failures without an error. At least one
    record is taken. The event loop gets a turn every 10 ms of handling.

    How the handler runs is said by its component: `concurrency`, `blocking`, `timeout_seconds`.

    Arguments:
        turns: shared by the batches of a worker. A function handler holds it while it runs: were
            all batches ready at once, the loop would come round only after a slice of each.
        held: keys whose events are not tried.
        threads: runs blocking handlers; the event loop's own if not given. A batch that is
            cancelled does not wait for the calls that are under way there; what they still emit
            is dropped.
    """
    until = monotonic() + seconds
    waiting = set(held)
    processor = subscription.processor
    token = current_outbox.set(None)
    try:
        if processor.concurrency > 1:
            return await run_concurrently(subscription, records, waiting, until, threads)
        if processor.blocking:
            return await run_in_threads(subscription, records, waiting, until, threads)
        if subscription.is_coroutine:
            return await _run_coroutines(subscription, records, waiting, until)
        return await _run_functions(subscription, records, waiting, until, turns or asyncio.Lock())
    finally:
        current_outbox.reset(token)


async def _run_functions(
    subscription: Subscription,
    records: Sequence[Record],
    held: set[bytes],
    until: float,
    turns: asyncio.Lock,
) -> Outcome:
    # One outbox serves the batch: between two turns of the loop nothing else can run, and it is
    # closed during them. Measured: an outbox an event costs 0.33 us, of 4 us in a step.
    invoke = subscription.invoke
    emitted: list[Emitted] = []
    failures: list[Failure] = []
    outbox = Outbox(emitted, None, 0)
    current_outbox.set(outbox)
    handled, spent = 0, 0.0
    slow: list[float] = []
    holds: bool = await turns.acquire()
    begin = last = monotonic()
    turn = begin + SLICE_SECONDS
    try:
        for record in records:
            handled += 1
            outbox.key = record.key
            outbox.timestamp = record.timestamp
            if held and record.key in held:
                failures.append(Failure(subscription, record, None))
                continue
            mark = len(emitted)
            try:
                result = invoke(record.value)
                if result is not None:
                    refuse_awaitable(subscription, result)
            except Exception as error:  # noqa: BLE001 - whatever the user's code raises is a value
                del emitted[mark:]
                _note(Failure(subscription, record, error), failures, held)
            now = monotonic()
            if now - last > SLOW_SECONDS:
                slow.append(now - last)
            last = now
            if now >= turn:
                if now >= until:
                    break
                spent += now - begin
                outbox.is_open = False
                # The loop goes round while the turn is still held, so that the others queue for
                # it; each would take it as it comes and run before the loop is round.
                await asyncio.sleep(0)
                turns.release()
                holds = False
                holds = await turns.acquire()
                outbox.is_open = True
                begin = last = monotonic()
                turn = begin + SLICE_SECONDS
    finally:
        outbox.is_open = False
        if holds:  # not when it was cancelled while it waited for its turn
            turns.release()
    return Outcome(handled, emitted, failures, spent + last - begin, slow)


async def _run_coroutines(
    subscription: Subscription, records: Sequence[Record], held: set[bytes], until: float
) -> Outcome:
    # An outbox an event: what a handler leaves running must not emit in the name of the next.
    invoke = subscription.invoke
    emitted: list[Emitted] = []
    failures: list[Failure] = []
    handled, spent = 0, 0.0
    slow: list[float] = []
    begin = now = monotonic()
    turn = begin + SLICE_SECONDS
    limit = TimeLimit(subscription)
    try:
        for record in records:
            handled += 1
            if held and record.key in held:
                failures.append(Failure(subscription, record, None))
                continue
            outbox = Outbox(emitted, record.key, record.timestamp)
            current_outbox.set(outbox)
            mark = len(emitted)
            error: Exception | None = None
            limit.began = last = now
            try:
                await invoke(record.value)
            except asyncio.CancelledError as cancelled:
                error = limit.failure(cancelled)
            except Exception as raised:  # noqa: BLE001 - whatever the user's code raises is a value
                error = raised
            finally:
                outbox.is_open = False
            if limit.cancels:
                error = limit.expired(error)
            if error is not None:
                del emitted[mark:]
                _note(Failure(subscription, record, error), failures, held)
            now = monotonic()
            if now - last > SLOW_SECONDS:
                slow.append(now - last)
            if now >= turn:
                if now >= until:
                    break
                spent += now - begin
                limit.began = float("inf")
                await asyncio.sleep(0)
                begin = now = monotonic()
                turn = now + SLICE_SECONDS
    finally:
        limit.close()
    return Outcome(handled, emitted, failures, spent + now - begin, slow)


def _outcome_of(
    subscription: Subscription, record: Record, emitted: list[Emitted], error: Exception | None
) -> Outcome:
    if error is None:
        return Outcome(1, emitted, [])
    return Outcome(1, [], [Failure(subscription, record, error)])


def _note(failure: Failure, failures: list[Failure], held: set[bytes]) -> None:
    failures.append(failure)
    key, error = failure.record.key, failure.error
    if key is not None and error is not None and holds_its_key(failure.subscription, error):
        held.add(key)
