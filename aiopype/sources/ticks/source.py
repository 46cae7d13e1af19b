"""The loop that ticks, and what a tick does."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack

from aiopype.emitter import MessageHandler
from aiopype.errors import PermanentError, TemporaryError
from aiopype.inputs import RawInput
from aiopype.source import Source
from aiopype.sources.attempts import Attempts
from aiopype.sources.ticks.options import TickOptions
from aiopype.sources.ticks.overlap import Runs
from aiopype.sources.ticks.position import Dealt
from aiopype.sources.ticks.schedule import Schedule, newest, told

__all__ = ["TickingSource"]

#: Longest single sleep. The clock may be set while we wait; so we look again this often.
LOOK_AGAIN_SECONDS = 1.0

#: Two workers' clocks differ by less; more is a clock that was set.
SKEW_SECONDS = 5.0


class TickingSource(Source):
    """Ticks at the instants of a schedule.

    Emits `cron(timestamp)`: the scheduled instant, whole seconds since 1970, not the moment it was
    sent. An instant is ticked once, over restarts, moves to other workers and clocks that are set:
    the position is the last one that is dealt with, and durable together with its tick. Where the
    source has never run before, it begins with the first instant after its start.

    Arguments:
        name, handler: as for every component.
        schedule: when it ticks.
        options: as `TickOptions` says.
    """

    events = ("cron",)

    def __init__(
        self, name: str, handler: MessageHandler, schedule: Schedule, options: TickOptions
    ) -> None:
        super().__init__(name, handler)
        self.schedule = schedule
        self.options = options
        self.expect_every = options.expect_every
        self.rate_limit = options.rate_limit
        self._attempts = Attempts(options, self.vitals)
        self._runs: Runs | None = None
        self._commit = asyncio.Lock()

    # --- what may be overridden

    async def run(self, instant: int) -> None:
        """Do what a tick is for; emits `cron(timestamp)` unless it is overridden.

        Called on the one worker that owns the source, once for each instant that is due, as
        `overlap` says while an earlier call goes on. What it emits is written, together with the
        position, in one transaction when it has returned: all or nothing. What it does elsewhere
        may be done again after a crash, for `instant` tells which time it is.

        What it raises makes the source call it again for the same instant, after a delay that
        grows, until there are `exception_threshold` errors in a row: then the source is in
        quarantine. `TemporaryError(delay)` says how long to wait at least. `PermanentError` gives
        the instant up: it becomes a dead letter.

        Arguments:
            instant: the scheduled one, in seconds since 1970.
        """
        await self.emit_async("cron", self.transform_time(instant))

    def transform_time(self, instant: int) -> int:
        """Return the timestamp of the tick of an instant: the instant itself."""
        return instant

    @property
    def _is_run_overridden(self) -> bool:
        return type(self).run is not TickingSource.run

    # --- the loop

    async def start(self) -> None:
        """Tick for ever, or to the end of the schedule.

        Raises:
            CircuitOpen: `run` failed too often in a row.
            StateCorrupt: the stored position is of another kind of source.
        """
        if self.position is None:
            # Without it, what is missed before the first tick would never be known as such.
            self.checkpoint(self._beginning())
            await self.flush()
        dealt = Dealt.read(self.name, self.position)
        runs = self._runs = Runs(self.name, self._handle, dealt, self.options, self.logger)
        try:
            async with runs:
                await self._tick(dealt, runs)
        finally:
            self._runs = None

    def _beginning(self) -> int:
        """Return the instant after which a source ticks that has never run before."""
        return math.floor(self.clock.time())

    async def _tick(self, dealt: Dealt, runs: Runs) -> None:
        add = runs.add if self._is_run_overridden else runs.run_now
        last = dealt.begin
        while (due := self.schedule.after(last)) is not None:
            now = await self._wait(last, due)
            if due < now - self.options.grace_seconds:
                last, instants = await self._make_up(runs, dealt, last, now)
            else:
                last, instants = due, [due]
            for instant in instants:
                if not dealt.has(instant):
                    await add(instant)
                    # Many that are due at once leave the event loop to others in between.
                    await asyncio.sleep(0)

    async def _wait(self, last: int, due: int) -> float:
        """Wait until an instant is due; return the time."""
        is_told = False
        while (now := self.clock.time()) < due:
            if now < last - SKEW_SECONDS and not is_told:
                self.logger.warning(
                    "the clock shows %s, and instants up to %s are ticked already: it was set back,"
                    " or was ahead before; the next tick is at %s",
                    told(now), told(last), told(due),
                )  # fmt: skip
                is_told = True
            await self.clock.sleep(min(due - now, LOOK_AGAIN_SECONDS))
        return now

    async def _make_up(
        self, runs: Runs, dealt: Dealt, last: int, now: float
    ) -> tuple[int, list[int]]:
        """Return the last one of the missed instants after `last`, and those to tick for them."""
        end = math.ceil(now - self.options.grace_seconds) - 1
        found, are_more = await newest(self.schedule, last, end, self.options.missed_limit)
        missed = [instant for instant in found if not dealt.has(instant)]
        match self.options.missed:
            case "all":
                chosen, done = missed, "these are ticked now"
            case "one" if not self._is_due(dealt, end, now):
                chosen, done = missed[-1:], "the last one is ticked now"
            case "one":
                chosen, done = [], "the next one, which is in time, makes up for them"
            case _:
                chosen, done = [], "they are left out"
        if missed:
            self.logger.warning(
                "instants were missed: %d, from %s to %s%s; missed is %r: %s",
                len(missed), told(missed[0]), told(missed[-1]),
                ", and earlier ones, which are left out" if are_more else "",
                self.options.missed, done,
            )  # fmt: skip
        runs.leave_out(chosen[0] - 1 if chosen else found[-1])
        if not chosen:
            async with self._commit:
                self.checkpoint(runs.dealt_with().position)
                await self.flush()
        return found[-1], chosen

    def _is_due(self, dealt: Dealt, after: int, now: float) -> bool:
        """Say whether an instant is to be ticked in time."""
        due = self.schedule.after(after)
        return due is not None and due <= now and not dealt.has(due)

    # --- one tick

    async def _handle(self, instant: int) -> None:
        await self.pace()
        await self.receive(RawInput("tick", b"%d" % instant, self.clock.time()))

    async def take(self, raw: RawInput) -> None:
        """Run what the tick is for; again, until that goes well or the instant is given up."""
        instant = int(raw.data)
        if not self._is_run_overridden:
            self.checkpoint(self._position(instant))
            await self.run(instant)
            self._note(instant)
            return
        while (error := await self._try(instant)) is not None:
            if isinstance(error, PermanentError):
                async with self._commit:
                    self.checkpoint(self._position(instant))
                    await self.reject(raw, error)
                    self._note(instant)
                break
            wanted = error.delay if isinstance(error, TemporaryError) else None
            delay = self._attempts.failed(error, wanted or 0.0)
            self.logger.warning(
                "the run of %s: %s: %s; again in %.1f s",
                told(instant), type(error).__name__, error, delay,
            )  # fmt: skip
            await self.clock.sleep(delay)
        else:
            self._attempts.succeeded()
        await self.flush()

    async def _try(self, instant: int) -> Exception | None:
        """Run in a transaction with the position; return what the run raised."""
        try:
            async with AsyncExitStack() as committing:
                async with self.transaction():
                    await self._run_in_time(instant)
                    # What runs beside each other ends one after the other: no position says that
                    # another one is dealt with before its events are on their way.
                    await committing.enter_async_context(self._commit)
                    self.checkpoint(self._position(instant))
                self._note(instant)
        except _RunError as failure:
            return failure.error
        return None

    async def _run_in_time(self, instant: int) -> None:
        limit = self.options.run_seconds
        try:
            async with asyncio.timeout(limit) as timeout:
                await self.run(instant)
        except Exception as error:
            if timeout.expired():
                late = TimeoutError(f"it took longer than {limit:g} s, its `run_seconds`")
                raise _RunError(late) from error
            raise _RunError(error) from error

    def _position(self, instant: int) -> int | list[int]:
        return instant if self._runs is None else self._runs.dealt_with(instant).position

    def _note(self, instant: int) -> None:
        if self._runs is not None:
            self._runs.over(instant)


class _RunError(Exception):
    """A user's `run` raised."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error
