"""How long the events of a partition may wait, in all, for one that is tried again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

__all__ = ["Patience"]

#: What a partition may have saved up of seconds to wait inside batches, and how much of a second
#: it regains each second: with a key in trouble all the time, the others lose a twentieth.
MOST_SECONDS, REGAINED = 1.0, 0.05

#: How soon a partition that was revoked meanwhile is noticed.
NOTICE_SECONDS = 0.1


class Patience:
    """A budget of seconds that one partition may spend waiting inside its batches.

    Arguments:
        clock: seconds that never go back.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._saved = MOST_SECONDS
        self._at = clock()

    def take(self, seconds: float) -> bool:
        """Spend so many seconds if there are as many; say whether there are."""
        self._regain()
        if self._saved <= 0 or self._saved < seconds:
            return False
        self._saved -= seconds
        return True

    def lose(self, seconds: float) -> None:
        """Spend so many seconds, or all there are: so long did tries take that failed again."""
        self._regain()
        self._saved = max(0.0, self._saved - seconds)

    def _regain(self) -> None:
        now = self._clock()
        self._saved = min(MOST_SECONDS, self._saved + (now - self._at) * REGAINED)
        self._at = now

    async def wait(self, seconds: float, still_wanted: Callable[[], bool]) -> None:
        """Wait so long, or until it is soon noticed that nobody wants the result any more."""
        while seconds > 0 and still_wanted():
            await self._sleep(min(seconds, NOTICE_SECONDS))
            seconds -= NOTICE_SECONDS
