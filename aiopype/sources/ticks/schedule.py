"""When a source ticks: instants, whole seconds since 1970, as pure functions of the time."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple, Protocol

from aiopype.errors import ConfigurationError

__all__ = ["Interval", "Newest", "Schedule", "Span", "newest", "told", "whole_seconds"]

#: The first window in which the newest instants are looked for; each further one is twice as long.
FIRST_WINDOW_SECONDS = 64

#: Instants that are looked at in one turn of the event loop: some milliseconds.
AT_ONCE = 100


class Schedule(Protocol):
    """The instants at which a source ticks.

    They depend on nothing but the schedule itself: asked from any moment, by any worker, there are
    the same ones.
    """

    def after(self, instant: int) -> int | None:
        """Return the first one that is later than `instant`; None when there is no more."""


class Interval(NamedTuple):
    """Every multiple of so many seconds since 1970, for ever."""

    seconds: int

    def after(self, instant: int) -> int:
        """Return the first one that is later."""
        return instant - instant % self.seconds + self.seconds


class Span(NamedTuple):
    """`start`, and then every `seconds`, before `end`."""

    start: int
    seconds: int
    end: int

    def after(self, instant: int) -> int | None:
        """Return the first one that is later; None at the end."""
        if instant < self.start:
            later = self.start
        else:
            later = instant - (instant - self.start) % self.seconds + self.seconds
        return later if later < self.end else None


class Newest(NamedTuple):
    """Some instants of a schedule, in order, and whether there are earlier ones."""

    instants: list[int]
    are_more: bool


async def newest(schedule: Schedule, after: int, until: int, limit: int) -> Newest:
    """Return the last `limit` instants from the one after `after` to `until`, both included.

    It looks backwards from `until`, so that a year of seconds costs no more than the last of them,
    and lets others run on the way.
    """
    found: list[int] = []
    start, window = until, FIRST_WINDOW_SECONDS
    while start > after and len(found) <= limit:
        end, start = start, max(after, start - window)
        found[:0] = await _between(schedule, start, end, limit + 1)
        window *= 2
    return Newest(found[-limit:], len(found) > limit)


async def _between(schedule: Schedule, after: int, until: int, limit: int) -> deque[int]:
    found: deque[int] = deque(maxlen=limit)
    instant = schedule.after(after)
    for number in count(1):
        if instant is None or instant > until:
            break
        found.append(instant)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
        instant = schedule.after(instant)
    return found


def told(instant: float) -> str:
    """Return an instant for a log line: `2026-03-29 01:00:00Z`."""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def whole_seconds(source: str, what: str, value: Any, at_least: int | None = None) -> int:
    """Return a number of seconds that a source was given.

    Arguments:
        source: its name, for the error.
        what: the argument's name.
        value: what was given for it; a float without a fraction is as good as an int.
        at_least: the least it may be, if there is one.

    Raises:
        ConfigurationError: it is no such number.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value != value // 1 or (at_least is not None and value < at_least):
        least = "" if at_least is None else f" from {at_least} on"
        raise ConfigurationError(f"source {source!r}: {what}={value!r}; give whole seconds{least}")
    return int(value)
