"""How many numbered items an upstream has: a line over time, so that no end of it loses any."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Growth"]


class Growth(NamedTuple):
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

    def born(self, number: int) -> float:
        """When an item after `base` was there."""
        return self.at + (number - self.base) / self.per_second if self.per_second else self.at
