"""One call of a handler: what it raises, and how long it may take."""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Coroutine, Generator
from math import inf
from typing import Any

from aiopype.emitter import Outbox, current_outbox
from aiopype.errors import HandlerError
from aiopype.event import Record
from aiopype.graph import Subscription

__all__ = ["SLICE_SECONDS", "TimeLimit", "call", "call_async", "refuse_awaitable"]

#: Seconds of handling after which the event loop gets its turn: acknowledgements, commits,
#: heartbeats and signals wait no longer than this and the one handler call that was under way.
SLICE_SECONDS = 0.01


def call(subscription: Subscription, record: Record, outbox: Outbox) -> Exception | None:
    """Call a function handler with an event; return what it raised. `outbox` is closed then."""
    token = current_outbox.set(outbox)
    try:
        result = subscription.invoke(record.value)
        if result is not None:
            refuse_awaitable(subscription, result)
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises is a value
        return error
    finally:
        outbox.is_open = False
        current_outbox.reset(token)
    return None


async def call_async(
    subscription: Subscription, record: Record, outbox: Outbox
) -> Exception | None:
    """Call a coroutine handler with an event; return what it raised. `outbox` is closed then."""
    token = current_outbox.set(outbox)
    limit: TimeLimit | None = None
    error: Exception | None = None
    try:
        coroutine = subscription.invoke(record.value)
        try:
            waits_for = coroutine.send(None)
        except StopIteration:
            return None  # it never waited. The timer would cost as much as the rest, 2 us
        limit = TimeLimit(subscription)
        limit.began = asyncio.get_running_loop().time()
        await _rest_of(coroutine, waits_for)
    except asyncio.CancelledError as cancelled:
        limit = limit or TimeLimit(subscription)
        error = limit.failure(cancelled)
    except Exception as raised:  # noqa: BLE001 - whatever the user's code raises is a value
        error = raised
    finally:
        outbox.is_open = False
        current_outbox.reset(token)
        if limit is not None:
            error = limit.expired(error) if limit.cancels else error
            limit.close()
    return error


@types.coroutine
def _rest_of(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Await a coroutine that was begun by hand and waits for something already."""
    while True:
        try:
            yield waits_for
        except BaseException as error:  # noqa: BLE001 - it is for the coroutine to handle
            try:
                waits_for = coroutine.throw(error)
            except StopIteration:
                return
        else:
            yield from coroutine.__await__()
            return


def refuse_awaitable(subscription: Subscription, result: Any) -> None:
    """Raise HandlerError when a function handler returned what nobody awaits."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise HandlerError(
            f"{subscription.name} returned an awaitable that nobody awaits; "
            "declare the handler with `async def`"
        )


class TimeLimit:
    """Cancels a call of a coroutine handler that takes longer than its component allows.

    One timer serves all the calls that a task makes, one after the other, and looks at `began`:
    `asyncio.timeout` around each would cost more than a short handler.

    Attributes:
        began: when the call under way began, on the loop's clock; inf when there is none.
        cancels: how often that call was cancelled: again each time the limit has passed.
    """

    def __init__(self, subscription: Subscription) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.began = inf
        self.cancels = 0
        self._task = task
        self._subscription = subscription
        self._seconds = float(subscription.processor.timeout_seconds)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        if self._seconds < inf:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
        self._take_back()

    def failure(self, cancelled: asyncio.CancelledError) -> Exception:
        """Return the failure that a cancelled call is; raise when its task is being cancelled."""
        if self._task.cancelling() > self.cancels:
            raise cancelled
        # Nobody cancelled the batch: the handler awaited something that was cancelled.
        failure = HandlerError(f"{self._subscription.name} awaited a task that was cancelled")
        failure.__cause__ = cancelled
        return failure

    def expired(self, error: Exception | None) -> TimeoutError:
        """Return the failure of a call that was cancelled here, however it ended."""
        self._take_back()
        failure = TimeoutError(
            f"{self._subscription.name} took longer than {self._seconds:g} s and was cancelled; "
            "make it quicker, or raise `timeout_seconds` of its component"
        )
        failure.__cause__ = error
        return failure

    def _take_back(self) -> None:
        for _ in range(self.cancels):
            self._task.uncancel()
        self.cancels = 0

    def _look(self) -> None:
        left = self.began + self._seconds - self._loop.time()
        if left <= 0:
            self.cancels += 1
            self._task.cancel()
            left = self._seconds
        self._timer = self._loop.call_later(min(left, self._seconds), self._look)
