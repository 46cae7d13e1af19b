"""A clock in a test's hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

__all__ = ["FakeClock"]

#: 2026-01-01 00:00:00 UTC.
BEGINNING = 1_767_225_600.0

#: Rounds of the event loop after each step of time: whoever woke up, and those whom it hands
#: something on to, come to their next wait within them.
ROUNDS = 30


class FakeClock:
    """A clock that stands still until a test moves it; an `aiopype.clock.Clock`.

    Give it to the sources of a test (`source.clock = clock`; `run_managers` does). Who sleeps by it
    is woken by `advance`, in the order of the times at which that is due, and each runs on, with
    the clock at that time, before the next is woken. So the same test takes the same steps each
    time.

    What waits for something else, a socket or a thread, is not waited for: use `asleep` to
    wait until it is back.

    Arguments:
        time: seconds since 1970 to begin at. `monotonic` begins at 0.
    """

    def __init__(self, time: float = BEGINNING) -> None:
        self._offset = float(time)
        self._monotonic = 0.0
        self._sleepers: list[_Sleeper] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        """Return the seconds since 1970."""
        return self._offset + self._monotonic

    def monotonic(self) -> float:
        """Return the seconds that this clock was advanced by."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced so far; with 0 or less, let others run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():  # else it was cancelled
                woken.set_result(None)

        sleeper = self.call_later(seconds, wake)
        try:
            await woken
        finally:
            sleeper.cancel()

    def call_later(self, seconds: float, call: Callable[[], object]) -> _Sleeper:
        """Call a function when the clock was advanced so far; the result has a `cancel`."""
        sleeper = _Sleeper(self._monotonic + seconds, next(self._numbers), call)
        heapq.heappush(self._sleepers, sleeper)
        return sleeper

    # --- what a test does

    def set(self, time: float) -> None:
        """Set the wall clock, as an operator or NTP does: nobody wakes, `monotonic` stays."""
        self._offset = float(time) - self._monotonic

    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass, on both clocks; return when all that was due has run.

        Raises:
            ValueError: time does not go back; `set` sets the wall clock back.
        """
        if seconds < 0:
            raise ValueError(f"advance({seconds!r}): time does not go back; use set()")
        end = self._monotonic + seconds
        await self.settle()
        while (due := self.next_due()) is not None and due <= end:
            await self._wake()
        self._monotonic = end

    async def jump(self, unless: Callable[[], object] = lambda: False) -> bool:
        """Go on to the next time at which somebody is woken; say whether there was one.

        Arguments:
            unless: what has come true when all that can run now has run; then the clock stays.
        """
        await self.settle()
        if unless() or self.next_due() is None:
            return False
        await self._wake()
        return True

    def next_due(self) -> float | None:
        """Return when the next one is woken, on the `monotonic` clock; None when nobody sleeps."""
        while self._sleepers and self._sleepers[0].is_cancelled:
            heapq.heappop(self._sleepers)
        return self._sleepers[0].due if self._sleepers else None

    async def asleep(self, count: int = 1, *, within_seconds: float = 10.0) -> None:
        """Wait, in real time, until so many sleep by this clock: what has to do with a network
        is back from it.

        Raises:
            TimeoutError: they did not within so many real seconds.
        """
        async with asyncio.timeout(within_seconds):
            while sum(not s.is_cancelled for s in self._sleepers) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def settle(self) -> None:
        """Let everything run that can run now."""
        for _ in range(ROUNDS):
            await asyncio.sleep(0)

    async def _wake(self) -> None:
        sleeper = heapq.heappop(self._sleepers)
        self._monotonic = max(self._monotonic, sleeper.due)
        sleeper.call()
        await self.settle()


class _Sleeper:
    """Something to do at a time; one that is cancelled is passed over."""

    __slots__ = ("call", "due", "is_cancelled", "number")

    def __init__(self, due: float, number: int, call: Callable[[], object]) -> None:
        self.due = due
        self.number = number
        self.call = call
        self.is_cancelled = False

    def __lt__(self, other: _Sleeper) -> bool:
        return (self.due, self.number) < (other.due, other.number)

    def cancel(self) -> None:
        """Do nothing then."""
        self.is_cancelled = True
