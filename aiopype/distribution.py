"""How values are spread: counted by ranges, as a histogram of Prometheus has them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["Distribution"]


class Distribution:
    """Counts values by range; what it was given is not kept.

    Arguments:
        bounds: the highest value of each range, ascending; beyond the last there is one more.

    Attributes:
        bounds: as given.
        counts: how many values each range has, one more than there are bounds.
        sum: of all values.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """Count a value, as often as it stands for so many."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)
