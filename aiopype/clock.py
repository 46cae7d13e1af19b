"""What time it is, and waiting: the two things a test wants to have in its own hand."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """What a source asks for the time, and waits by."""

    def time(self) -> float:
        """Return the seconds since 1970; it may be set, and so jump."""

    def monotonic(self) -> float:
        """Return seconds that never go back, from some moment on."""

    async def sleep(self, seconds: float) -> None:
        """Wait so long."""


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        """Return the seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait so long."""
        await asyncio.sleep(seconds)


#: It has no state, so one serves all.
SYSTEM_CLOCK = SystemClock()
