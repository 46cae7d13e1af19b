"""The demo's program: a source, two branches behind it, and a CSV file at the end of each.

    source --data--> prices    --price--> price_file  (aapl.csv)
                `--> busy_days --busy---> busy_file   (busy.csv)

`aiopype run aiopype.demo.flow:dataflow` runs it as any other flow, until Ctrl-C;
`python -m aiopype.demo` runs it once over all days and checks the files.
"""

from __future__ import annotations

import csv
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from aiohttp import ClientResponseError

from aiopype import AsyncFlow, Manager, Processor
from aiopype.demo.days import read_days
from aiopype.demo.server import CLOSED, quote_server
from aiopype.emitter import MessageHandler
from aiopype.sources import RestSource

__all__ = [
    "BUSY_FILE",
    "BUSY_SHARES",
    "DATA_DIR",
    "PRICE_FILE",
    "AaplManager",
    "BusyDays",
    "CSVOutput",
    "FlowConfig",
    "Prices",
    "QuoteSource",
    "dataflow",
]

#: Where the demo keeps everything: its files and, when it runs its own, Kafka's.
DATA_DIR = Path(os.environ.get("AIOPYPE_DATA_DIR") or ".aiopype").absolute() / "demo"

PRICE_FILE = DATA_DIR / "aapl.csv"
BUSY_FILE = DATA_DIR / "busy.csv"

#: A day with more shares traded is a busy one.
BUSY_SHARES = 50_000_000


class QuoteSource(RestSource):
    """Polls quotes until the market closes for good.

    It brings the server along, so it knows the URL only when it starts. One that polls a server
    out there gives the URL to `__init__`, and is done.
    """

    def __init__(self, name: str, handler: MessageHandler, symbol: str) -> None:
        super().__init__(name, handler, "", {"request_interval": 0.005})
        self.symbol = symbol

    async def start(self) -> None:
        """Serve and poll all days, from the first: what is known already, the outputs skip."""
        async with quote_server(read_days()) as server:
            self.url = f"{server}/webservice/v1/symbols/{self.symbol}/quote?format=json&view=detail"
            with suppress(_MarketClosed):
                await super().start()

    async def error_handler(self, error: Exception) -> None:
        """End the source when the market has closed; any other error is as for every source."""
        if isinstance(error, ClientResponseError) and error.status == CLOSED:
            raise _MarketClosed
        await super().error_handler(error)


class _MarketClosed(Exception):
    """There will be no more quotes."""


class Prices(Processor):
    """Takes day and price from a quote."""

    def handle(self, data: Any, time: str) -> None:
        """Emit `price(day, price)`."""
        fields = _fields(data)
        self.emit("price", _day(fields), float(fields["price"]))


class BusyDays(Processor):
    """Picks the days on which many shares were traded."""

    def handle(self, data: Any, time: str) -> None:
        """Emit `busy(day, shares)`, or nothing."""
        fields = _fields(data)
        shares = int(fields["volume"])
        if shares > BUSY_SHARES:
            self.emit("busy", _day(fields), shares)


def _fields(data: Any) -> dict[str, str]:
    fields: dict[str, str] = data["list"]["resources"][0]["resource"]["fields"]
    return fields


def _day(fields: dict[str, str]) -> str:
    return fields["utctime"][:10]


class CSVOutput(Processor):
    """Appends events to a CSV file, a row each, and never one twice.

    An event may come again: after a crash, a rebalance, a retry. The file itself tells which rows
    it has; an attribute would not know what was written before a restart, or by the worker that
    had the partition before.
    """

    def __init__(self, name: str, handler: MessageHandler, file: Path, column: str) -> None:
        super().__init__(name, handler)
        self.file = file
        self.column = column

    def write(self, time: str, value: int | float) -> None:
        """Append a row, unless its time is not later than that of the last one."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a+", newline="") as file:
            writer = csv.writer(file, delimiter=";", lineterminator="\n")
            if file.tell() == 0:
                writer.writerow(["time", self.column])
            elif time <= _last_time(file):
                return
            writer.writerow([time, value])


def _last_time(file: TextIO) -> str:
    """Return the time of the last row of a file that is open at its end; the header is no row."""
    file.seek(max(0, file.tell() - 100))  # longer than any row
    last, _, _ = file.read().splitlines()[-1].partition(";")
    return "" if last == "time" else last


class AaplManager(Manager):
    """Apple's prices and its busy days, each into a file."""

    name = "aapl"

    def __init__(self, handler: MessageHandler) -> None:
        super().__init__(handler)
        named = self.build_processor_name
        self.source = QuoteSource(named("source"), handler, "AAPL")
        self.prices = Prices(named("prices"), handler)
        self.busy_days = BusyDays(named("busy_days"), handler)
        self.price_file = CSVOutput(named("price_file"), handler, PRICE_FILE, "price")
        self.busy_file = CSVOutput(named("busy_file"), handler, BUSY_FILE, "shares")

        self.source.on("data", self.prices.handle)
        self.source.on("data", self.busy_days.handle)
        self.prices.on("price", self.price_file.write)
        self.busy_days.on("busy", self.busy_file.write)


class FlowConfig:
    """What to run, and where it keeps its files."""

    FLOWS = ("aapl",)
    NAME = "demo"
    DATA_DIR = DATA_DIR


dataflow = AsyncFlow(FlowConfig())
