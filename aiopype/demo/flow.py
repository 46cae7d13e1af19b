"""The demo's program: a REST API and a websocket, and a CSV file at the end of each branch.

    source --data--> prices    --price--> price_file  (aapl.csv)
                `--> busy_days --busy---> busy_file   (busy.csv)

    feed --message-------> tape     --trade--> trade_file  (trades.csv)
       `--disconnected --> feed_log
       `--gap------------> feed_log --gap----> gap_file    (gaps.csv)

`aiopype run aiopype.demo.flow:dataflow` runs it as any other flow, until Ctrl-C, and the next time
goes on where it was: its sources ask for what they do not have. With `--workers 2` and a `kill -9`
of the worker that has the feed the other one takes it over, and fills the gap.
`python -m aiopype.demo` runs it from the beginning, over all days and trades, and checks the files.
"""

from __future__ import annotations

import os
from pathlib import Path

from aiopype import AsyncFlow, Manager
from aiopype.demo.csv_output import CSVOutput
from aiopype.demo.quotes import BusyDays, Prices, QuoteSource
from aiopype.demo.trades import FeedLog, Tape, TradeFeed
from aiopype.emitter import MessageHandler

__all__ = [
    "BUSY_FILE",
    "DATA_DIR",
    "GAP_FILE",
    "OPENED_FILE",
    "PRICE_FILE",
    "TRADE_FILE",
    "AaplManager",
    "FlowConfig",
    "TradesManager",
    "dataflow",
]

#: Where the demo keeps everything: its files and, when it runs its own, Kafka's.
DATA_DIR = Path(os.environ.get("AIOPYPE_DATA_DIR") or ".aiopype").absolute() / "demo"

PRICE_FILE = DATA_DIR / "aapl.csv"
BUSY_FILE = DATA_DIR / "busy.csv"
TRADE_FILE = DATA_DIR / "trades.csv"
GAP_FILE = DATA_DIR / "gaps.csv"

#: Keeps when the exchange has opened.
OPENED_FILE = DATA_DIR / "opened"


class AaplManager(Manager):
    """Apple's prices and its busy days, each into a file."""

    name = "aapl"

    def __init__(self, handler: MessageHandler) -> None:
        super().__init__(handler)
        named = self.build_processor_name
        self.source = QuoteSource(named("source"), handler, "AAPL")
        self.prices = Prices(named("prices"), handler)
        self.busy_days = BusyDays(named("busy_days"), handler)
        self.price_file = CSVOutput(named("price_file"), handler, PRICE_FILE, ("time", "price"))
        self.busy_file = CSVOutput(named("busy_file"), handler, BUSY_FILE, ("time", "shares"))

        self.source.on("data", self.prices.handle)
        self.source.on("data", self.busy_days.handle)
        self.prices.on("price", self.price_file.write)
        self.busy_days.on("busy", self.busy_file.write)


class TradesManager(Manager):
    """Trades as they happen, and the gaps in what was heard of them, each into a file."""

    name = "trades"

    def __init__(self, handler: MessageHandler) -> None:
        super().__init__(handler)
        named = self.build_processor_name
        self.feed = TradeFeed(named("feed"), handler, OPENED_FILE)
        self.tape = Tape(named("tape"), handler)
        self.feed_log = FeedLog(named("feed_log"), handler)
        self.trade_file = CSVOutput(named("trade_file"), handler, TRADE_FILE, ("number", "price"))
        gap_columns = ("after", "seconds", "trades")
        self.gap_file = CSVOutput(named("gap_file"), handler, GAP_FILE, gap_columns)

        self.feed.on("message", self.tape.handle)
        self.feed.on("disconnected", self.feed_log.lost)
        self.feed.on("gap", self.feed_log.back)
        self.tape.on("trade", self.trade_file.write)
        self.feed_log.on("gap", self.gap_file.write)


class FlowConfig:
    """What to run, and where it keeps its files."""

    FLOWS = ("aapl", "trades")
    NAME = "demo"
    DATA_DIR = DATA_DIR


dataflow = AsyncFlow(FlowConfig())
