"""The demo's exchange: trades that happen one after the other, whether anybody listens or not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from aiopype.demo.days import read_days

__all__ = ["Exchange", "Trade", "read_trades"]

#: A session of fourteen seconds, at a hundred trades a second.
TRADES = 1_400
INTERVAL_SECONDS = 0.01

#: While these happen the line to the exchange is cut.
OUTAGE = range(500, 800)


class Trade(msgspec.Struct, frozen=True):
    """A trade, as the exchange tells it.

    Attributes:
        number: from 1 on, and none is left out.
        price: in dollars.
    """

    number: int
    price: float


def read_trades() -> list[Trade]:
    """Return the trades of the session, the first one first."""
    closes = (float(day.close) for day in read_days()[:TRADES])
    return [Trade(number, close) for number, close in enumerate(closes, start=1)]


class Exchange:
    """Says which trades have happened by now.

    It opens once, and the file that is made then keeps when that was. So another worker that brings
    it along, or the next run, finds it where it would be if it had never stopped.

    Arguments:
        trades: all that are going to happen.
        opened: the file.
        interval_seconds: between two trades.
        outage: the numbers of trades that happen while the line is cut.
    """

    def __init__(
        self,
        trades: Sequence[Trade],
        opened: Path,
        interval_seconds: float = INTERVAL_SECONDS,
        outage: range = OUTAGE,
    ) -> None:
        self.trades = trades
        self.interval_seconds = interval_seconds
        self.outage = outage
        self._opened = opened

    def open(self) -> None:
        """Have trades happen from now on, unless they do already."""
        self._opened.parent.mkdir(parents=True, exist_ok=True)
        self._opened.open("a").close()  # leaves the time of a file that exists

    @property
    def happened(self) -> int:
        """How many trades have happened: the number of the last."""
        try:
            opened = self._opened.stat().st_mtime
        except FileNotFoundError:
            return 0
        number = int((time.time() - opened) / self.interval_seconds)
        return max(0, min(number, len(self.trades)))

    @property
    def is_cut_off(self) -> bool:
        """Whether the line is cut."""
        return self.happened in self.outage

    def after(self, number: int) -> Sequence[Trade]:
        """Return the trades that have happened after one."""
        return self.trades[number : self.happened]
