"""Sources that tick at the multiples of an interval; those of the first aiopype."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from aiopype.emitter import MessageHandler
from aiopype.sources.options import read_options
from aiopype.sources.ticks import TickingSource, TickOptions
from aiopype.sources.ticks.schedule import Interval, Span, whole_seconds

__all__ = ["CronJob", "HistoryTimeEmitter", "OffsetCronJob", "OffsetTimeSource", "TimeSource"]

_Options = Mapping[str, Any] | TickOptions | None


class TimeSource(TickingSource):
    """Emits `cron(timestamp)` at every multiple of an interval, with that instant.

    Arguments:
        name, handler: as for every component.
        interval: seconds between two ticks, a whole number from 1 on; counted from 1970, UTC.
        options: as `TickOptions` says: `missed`, `overlap` and others.

    Raises:
        ConfigurationError: the interval or an option makes no sense.
    """

    def __init__(
        self, name: str, handler: MessageHandler, interval: int, options: _Options = None
    ) -> None:
        self.interval = whole_seconds(name, "interval", interval, 1)
        read = read_options(name, TickOptions, options)
        super().__init__(name, handler, Interval(self.interval), read)


class OffsetTimeSource(TimeSource):
    """A `TimeSource` whose timestamps are earlier than its instants by an offset.

    For what is there only some time later: the tick of 12:00 with an offset of 300 tells 11:55.

    Arguments:
        name, handler, interval, options: as for `TimeSource`.
        offset: seconds, a whole number.
    """

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        interval: int,
        offset: int,
        options: _Options = None,
    ) -> None:
        super().__init__(name, handler, interval, options)
        self.offset = whole_seconds(name, "offset", offset)

    def transform_time(self, instant: int) -> int:
        """Return the instant less the offset."""
        return instant - self.offset


class CronJob(TickingSource):
    """Ticks at every multiple of `frequency` and tells the start of the last whole `interval`.

    With an interval of an hour the ticks from 12:00 to 12:59 tell 11:00: what to work on when an
    hour is complete.

    Arguments:
        name, handler: as for every component.
        frequency: seconds between two ticks, a whole number from 1 on.
        interval: seconds, a whole number from 1 on; both are counted from 1970, UTC.
        options: as `TickOptions` says: `missed`, `overlap` and others.

    Raises:
        ConfigurationError: an argument or an option makes no sense.
    """

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        frequency: int,
        interval: int,
        options: _Options = None,
    ) -> None:
        self.frequency = whole_seconds(name, "frequency", frequency, 1)
        self.interval = whole_seconds(name, "interval", interval, 1)
        read = read_options(name, TickOptions, options)
        super().__init__(name, handler, Interval(self.frequency), read)

    def transform_time(self, instant: int) -> int:
        """Return the start of the last interval that is over at an instant."""
        return instant - instant % self.interval - self.interval


class OffsetCronJob(CronJob):
    """A `CronJob` whose timestamps are earlier by an offset.

    Arguments:
        name, handler, frequency, interval, options: as for `CronJob`.
        offset: seconds, a whole number.
    """

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        frequency: int,
        interval: int,
        offset: int,
        options: _Options = None,
    ) -> None:
        super().__init__(name, handler, frequency, interval, options)
        self.offset = whole_seconds(name, "offset", offset)

    def transform_time(self, instant: int) -> int:
        """Return what a `CronJob` does, less the offset."""
        return super().transform_time(instant) - self.offset


class HistoryTimeEmitter(TickingSource):
    """Ticks through a span of time at once, and ends: `start`, then every `interval`, before `end`.

    Started again, on whichever worker, it goes on where it was. `missed`, `grace_seconds` and
    `overlap="skip"` mean nothing here: no instant is left out.

    Arguments:
        name, handler: as for every component.
        start: the first instant, whole seconds since 1970.
        interval: seconds, a whole number from 1 on.
        end: ticks are before it; whole seconds since 1970.
        options: as `TickOptions` says.

    Raises:
        ConfigurationError: an argument or an option makes no sense.
    """

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        start: int,
        interval: int,
        end: int,
        options: _Options = None,
    ) -> None:
        self.start_time = whole_seconds(name, "start", start)
        self.interval = whole_seconds(name, "interval", interval, 1)
        self.end_time = whole_seconds(name, "end", end)
        read = read_options(name, TickOptions, options)
        overlap = "allow" if read.overlap == "allow" else "queue"
        read = replace(read, overlap=overlap, grace_seconds=math.inf)
        span = Span(self.start_time, self.interval, self.end_time)
        super().__init__(name, handler, span, read)

    def _beginning(self) -> int:
        return self.start_time - 1

    async def _wait(self, last: int, due: int) -> float:
        return self.clock.time()
