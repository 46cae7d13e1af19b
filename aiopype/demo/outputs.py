"""The files that the demo's flow writes, and what must be in them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from aiopype.demo.days import Day
from aiopype.demo.flow import BUSY_FILE, BUSY_SHARES, PRICE_FILE

__all__ = ["Output", "Row", "outputs_of"]

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
        return self._lines()[1:]

    def fault(self) -> str | None:
        """Say where the file first differs from what must be in it; None when nowhere."""
        due = [self.columns, *self.expected]
        for number, (found, wanted) in enumerate(zip_longest(self._lines(), due), start=1):
            if found is None:
                return f"{self.file} ends before line {number}, {_text(wanted)}"
            if wanted is None:
                return f"line {number} of {self.file} is one too many: {_text(found)}"
            if list(found) != list(wanted):
                return f"line {number} of {self.file} is {_text(found)}, not {_text(wanted)}"
        return None

    def _lines(self) -> list[Row]:
        try:
            text = self.file.read_text()
        except FileNotFoundError:
            return []
        whole, _, _ = text.rpartition("\n")
        return list(csv.reader(whole.splitlines(), delimiter=";"))


def outputs_of(days: Sequence[Day]) -> tuple[Output, Output]:
    """Return the files of prices and of busy days that the flow makes of these days."""
    prices = [(day.date, day.close) for day in days]
    busy = [(day.date, day.volume) for day in days if int(day.volume) > BUSY_SHARES]
    return (
        Output("aapl.prices.price", PRICE_FILE, ("time", "price"), prices),
        Output("aapl.busy_days.busy", BUSY_FILE, ("time", "shares"), busy),
    )


def _text(row: Row) -> str:
    return repr(";".join(row))
