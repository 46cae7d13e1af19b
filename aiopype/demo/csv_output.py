"""The demo's output: events as rows of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from aiopype import Processor
from aiopype.emitter import MessageHandler

__all__ = ["CSVOutput"]


class CSVOutput(Processor):
    """Appends events to a CSV file, a row each, and never one twice.

    An event may come again: after a crash, a rebalance, a retry. The file itself tells which rows
    it has; an attribute would not know what was written before a restart, or by the worker that
    had the partition before.

    Arguments:
        file: which is made with the first row.
        columns: its header.
    """

    def __init__(
        self, name: str, handler: MessageHandler, file: Path, columns: Sequence[str]
    ) -> None:
        super().__init__(name, handler)
        self.file = file
        self.columns = columns

    def write(self, key: str | int, *values: int | float) -> None:
        """Append a row, unless its key is not above that of the last one."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a+", newline="") as file:
            writer = csv.writer(file, delimiter=";", lineterminator="\n")
            if file.tell() == 0:
                writer.writerow(self.columns)
            last = _last_key(file)
            if last == self.columns[0] or _is_above(key, last):
                writer.writerow([key, *values])


def _last_key(file: TextIO) -> str:
    """Return the first field of the last line of a file that is open at its end."""
    file.seek(max(0, file.tell() - 100))  # longer than any line
    last, _, _ = file.read().splitlines()[-1].partition(";")
    return last


def _is_above(key: str | int, last: str) -> bool:
    return key > int(last) if isinstance(key, int) else key > last
