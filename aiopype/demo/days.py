"""The demo's data: one stock's trading days."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

__all__ = ["Day", "read_days"]

_FILE = Path(__file__).with_name("aapl-daily.csv")


class Day(NamedTuple):
    """A trading day, each field as the file has it."""

    date: str
    """ISO 8601, which sorts as text."""
    close: str
    """The last price, in dollars."""
    volume: str
    """Shares traded."""


def read_days() -> list[Day]:
    """Return all days, the oldest first."""
    with _FILE.open(newline="") as file:
        return [Day(*row) for row in csv.reader(file)][1:]
