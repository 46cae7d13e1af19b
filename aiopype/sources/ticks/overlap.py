"""What is done at instants, also where it is not over when the next one comes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiopype.sources.ticks.options import TickOptions
from aiopype.sources.ticks.position import Dealt
from aiopype.sources.ticks.schedule import told

__all__ = ["Runs"]


class Runs:
    """Runs what is to be done at instants, as `overlap` says, and knows what is dealt with.

        async with Runs(...) as runs:
            await runs.add(instant)

    Each run is a task. When one raises, the others are cancelled and the block raises the same. At
    its end the block waits for the runs that go on, and for those that wait.

    Arguments:
        source: its name.
        run: called with each instant; it calls `over` before it returns.
        dealt: what nothing is to be done of any more.
        options: the source's.
        logger: the source's.
    """

    def __init__(
        self,
        source: str,
        run: Callable[[int], Awaitable[None]],
        dealt: Dealt,
        options: TickOptions,
        logger: logging.Logger,
    ) -> None:
        self._source = source
        self._run = run
        self._missed = options.missed
        self._logger = logger
        self._most = options.concurrency if options.overlap == "allow" else 1
        self._room = options.missed_limit
        self._drops = options.overlap == "skip" and options.missed != "all"
        if self._drops:
            self._room = 1 if options.missed == "one" else 0
        self._start = self._last = dealt.until
        self._open = set(dealt.but_for)
        self._waiting: deque[int] = deque()
        # From the first on that is not over: that bounds what a position holds.
        self._begun: deque[int] = deque()
        self._dropped, self._last_dropped = 0, 0
        self._changed = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._is_ending = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_ending |= error is not None
        try:
            await self._group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as errors:
            # The supervisor goes by the class of what ended the source.
            raise errors.exceptions[0] from errors.exceptions[0].__cause__

    async def run_now(self, instant: int) -> None:
        """Run what is to be done at an instant, and return when it is over."""
        self._take(instant)
        await self._run(instant)

    async def add(self, instant: int) -> None:
        """Take an instant that is due; wait for room where it may not be dropped."""
        self._take(instant)
        self._waiting.append(instant)
        self._begin()
        while len(self._waiting) > self._room:
            if self._drops:
                self._dropped, self._last_dropped = self._dropped + 1, self._waiting.popleft()
                self._open.discard(self._last_dropped)
            else:
                self._changed.clear()
                await self._changed.wait()

    def leave_out(self, until: int) -> None:
        """Note that nothing is to be done of instants up to `until` that were not added."""
        self._last = max(self._last, until)
        added = {*self._begun, *self._waiting}
        self._open = {instant for instant in self._open if instant > until or instant in added}

    def over(self, instant: int) -> None:
        """Note that an instant is dealt with: once the position that says so is on its way."""
        self._open.discard(instant)

    def dealt_with(self, instant: int | None = None) -> Dealt:
        """Return what is dealt with, or will be when `instant` is."""
        first = next((waiting for waiting in self._waiting if waiting > self._start), None)
        until = self._last if first is None else first - 1
        return Dealt(until, frozenset(i for i in self._open if i <= until and i != instant))

    def _take(self, instant: int) -> None:
        self._open.add(instant)
        self._last = max(self._last, instant)

    def _begin(self) -> None:
        while self._waiting and len(self._begun) < self._most and not self._is_ending:
            instant = self._waiting.popleft()
            self._begun.append(instant)
            self._group.create_task(self._go(instant), name=f"run of {self._source} at {instant}")

    async def _go(self, instant: int) -> None:
        try:
            await self._run(instant)
        except BaseException:
            self._is_ending = True
            raise
        while self._begun and self._begun[0] not in self._open:
            self._begun.popleft()
        if self._dropped:
            self._logger.warning(
                "instants came while the run of %s was not over: %d are left out, the last one %s; "
                "overlap is 'skip', missed is %r",
                told(instant), self._dropped, told(self._last_dropped), self._missed,
            )  # fmt: skip
            self._dropped = 0
        self._begin()
        self._changed.set()
