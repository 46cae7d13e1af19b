"""How many numbered items an upstream has: lines over time, so that no end of it loses any."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Growth", "Line"]


class Line(NamedTuple):
    """Items 1 to `base` are there at a moment; so many more come each second after it.

    Attributes:
        base: how many there were,
        at: when; seconds since 1970.
        per_second: how many more come.
    """

    base: int
    at: float
    per_second: float

    def last(self, now: float) -> int:
        """The number of the last item that there is."""
        return self.base + int((now - self.at) * self.per_second)


class Growth:
    """Lines, one after the other; the same for who serves the items and for who counts them."""

    def __init__(self, *lines: Line) -> None:
        self.lines = list(lines)

    def turn(self, at: float, per_second: float) -> None:
        """Let so many come each second after a moment, which is to come."""
        self.lines.append(Line(self.last(at), at, per_second))

    def last(self, now: float) -> int:
        """The number of the last item that there is."""
        return next(line for line in reversed(self.lines) if line.at <= now).last(now)

    def born(self, number: int) -> float:
        """When an item was there."""
        line = next(line for line in reversed(self.lines) if line.base < number)
        return line.at + (number - line.base) / line.per_second
