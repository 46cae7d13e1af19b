"""The files that the demo's flow writes, and what must be in them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from aiopype.demo.days import Day
from aiopype.demo.exchange import Trade
from aiopype.demo.flow import BUSY_FILE, GAP_FILE, PRICE_FILE, TRADE_FILE
from aiopype.demo.quotes import BUSY_SHARES

__all__ = ["Gaps", "Output", "Outputs", "Row", "outputs_of"]

Row = Sequence[str]


@dataclass(frozen=True)
class Output:
    """The end of one branch: a file, looked at from outside of the flow.

    Attributes:
        topic: the events that become its rows.
        file: where it is.
        columns: its first line.
        expected: its rows when the flow has done all its work.
    """

    topic: str
    file: Path
    columns: Row
    expected: Sequence[Row]

    def rows(self) -> list[Row]:
        """Return the rows that are written by now, whole ones only."""
        return _lines(self.file)[1:]

    def fault(self) -> str | None:
        """Say where the file first differs from what must be in it; None when nowhere."""
        due = [self.columns, *self.expected]
        for number, (found, wanted) in enumerate(zip_longest(_lines(self.file), due), start=1):
            if found is None:
                return f"{self.file} ends before line {number}, {_text(wanted)}"
            if wanted is None:
                return f"line {number} of {self.file} is one too many: {_text(found)}"
            if list(found) != list(wanted):
                return f"line {number} of {self.file} is {_text(found)}, not {_text(wanted)}"
        return None


@dataclass(frozen=True)
class Gaps:
    """The file that tells of the feed's gaps; how many there are is not known before.

    Attributes:
        file: where it is.
    """

    file: Path

    def rows(self) -> list[Row]:
        """Return those that are written by now: after which trade, seconds, trades filled in."""
        return _lines(self.file)[1:]

    def fault(self) -> str | None:
        """Say what is wrong; None when nothing is."""
        return None if self.rows() else f"{self.file} has no gap, though each run cuts the feed off"


@dataclass(frozen=True)
class Outputs:
    """All that the flow writes: a row for each day, busy day, trade and gap."""

    prices: Output
    busy: Output
    trades: Output
    gaps: Gaps

    @property
    def files(self) -> tuple[Path, ...]:
        """Where they are."""
        return self.prices.file, self.busy.file, self.trades.file, self.gaps.file

    def faults(self) -> list[str]:
        """Say what is incomplete or wrong."""
        outputs = (self.prices, self.busy, self.trades, self.gaps)
        return [fault for output in outputs if (fault := output.fault()) is not None]


def outputs_of(days: Sequence[Day], trades: Sequence[Trade]) -> Outputs:
    """Return the files that the flow makes of these days and trades."""
    prices = [(day.date, day.close) for day in days]
    busy = [(day.date, day.volume) for day in days if int(day.volume) > BUSY_SHARES]
    traded = [(str(trade.number), str(trade.price)) for trade in trades]
    return Outputs(
        prices=Output("aapl.prices.price", PRICE_FILE, ("time", "price"), prices),
        busy=Output("aapl.busy_days.busy", BUSY_FILE, ("time", "shares"), busy),
        trades=Output("trades.tape.trade", TRADE_FILE, ("number", "price"), traded),
        gaps=Gaps(GAP_FILE),
    )


def _lines(file: Path) -> list[Row]:
    try:
        text = file.read_text()
    except FileNotFoundError:
        return []
    whole, _, _ = text.rpartition("\n")
    return list(csv.reader(whole.splitlines(), delimiter=";"))


def _text(row: Row) -> str:
    return repr(";".join(row))
