"""The demo's daily prices: a REST API that is polled, and what is made of its answers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from aiohttp import ClientResponseError

from aiopype import Processor
from aiopype.demo.days import read_days
from aiopype.demo.quote_server import CLOSED, quote_server
from aiopype.emitter import MessageHandler
from aiopype.sources import RestSource

__all__ = ["BUSY_SHARES", "BusyDays", "Prices", "QuoteSource"]

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
        """Serve the quotes and poll them."""
        async with quote_server(read_days()) as server:
            path = f"webservice/v1/symbols/{self.symbol}/quote?format=json&view=detail"
            self.url = f"http://{server}/{path}"
            with suppress(_MarketClosed):
                await super().start()

    def since_of(self, data: Any, since: Any) -> str:
        """Return the quote's day: the next poll asks for the one after it, also after a crash."""
        return _day(_fields(data))

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
