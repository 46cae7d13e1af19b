"""A source that ticks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiopype.emitter import MessageHandler
from aiopype.errors import ConfigurationError
from aiopype.source import Source

__all__ = ["TimeSource"]

#: Longest single sleep. The wall clock may be set while we wait; so we look again this often.
LOOK_AGAIN_SECONDS = 1.0


class TimeSource(Source):
    """Emits `cron(timestamp)` at every multiple of an interval of the wall clock.

    The timestamp is the scheduled instant, whole seconds since 1970, not the moment the tick was
    sent; an instant is never ticked twice by one run of the source, whatever the clock does.
    Instants that passed while nothing ran are skipped.

    Arguments:
        name, handler: as for every component.
        interval: seconds between two ticks, a whole number from 1 on.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: the interval is not a whole number from 1 on.
    """

    events = ("cron",)

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        interval: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, handler)
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ConfigurationError(
                f"source {name!r}: interval={interval!r}; give whole seconds from 1 on"
            )
        self.interval = interval
        self._clock = clock

    async def start(self) -> None:
        """Tick for ever."""
        last = self._instant()
        while True:
            due = last + self.interval
            while (wait := due - self._clock()) > 0:  # noqa: ASYNC110 - it is a clock
                await asyncio.sleep(min(wait, LOOK_AGAIN_SECONDS))
            last = max(due, self._instant())
            await self.emit_async("cron", last)

    def _instant(self) -> int:
        """The last instant that is due now."""
        return int(self._clock() // self.interval) * self.interval
