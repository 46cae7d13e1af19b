"""The demo's live trades: a websocket that is followed, and what its gaps are filled with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from aiopype import Processor
from aiopype.demo.exchange import Exchange, Trade, read_trades
from aiopype.demo.trade_server import CLOSED, trade_server
from aiopype.emitter import MessageHandler
from aiopype.sources import Gap, WebsocketSource

__all__ = ["FeedLog", "Tape", "TradeFeed"]


class TradeFeed(WebsocketSource):
    """Follows an exchange's trades until it closes, and asks for those that it missed.

    It brings the exchange along, so it knows the URL only when it runs. One that follows a feed out
    there has it as its `url`, and needs neither `start` nor `address`.
    """

    def __init__(self, name: str, handler: MessageHandler, opened: Path) -> None:
        options = {"first_delay_seconds": 0.5, "last_delay_seconds": 1.0}
        super().__init__(name, handler, options=options)
        self.opened = opened

    async def start(self) -> None:
        """Serve the exchange and follow its trades."""
        async with trade_server(Exchange(read_trades(), self.opened)) as self.server:
            with suppress(_MarketClosed):
                await super().start()

    async def address(self) -> str:
        """Return where the trades are."""
        return f"ws://{self.server}/feed"

    def position_of(self, message: Any) -> int:
        """Return the trade's number, which tells it apart."""
        number: int = message["number"]
        return number

    async def backfill(self, gap: Gap) -> AsyncIterator[Any]:
        """Ask for the trades that happened in a gap."""
        url = f"http://{self.server}/trades"
        async with ClientSession(raise_for_status=True) as session:
            answer = await session.get(url, params={"after": gap.position or 0})
            for trade in await answer.json():
                yield trade

    async def on_lost_connection(self, reason: str) -> None:
        """End the source when the market has closed; else it connects again."""
        if CLOSED in reason:
            raise _MarketClosed


class _MarketClosed(Exception):
    """There will be no more trades."""


class Tape(Processor):
    """Takes number and price from a trade."""

    def handle(self, trade: Trade) -> None:
        """Emit `trade(number, price)`."""
        self.emit("trade", trade.number, trade.price)


class FeedLog(Processor):
    """Tells a person how the feed is doing.

    Each line is told by one event alone: events of two topics may come in any order.
    """

    def lost(self, reason: str) -> None:
        """Tell that the connection is lost; its end after the last trade is no loss."""
        if CLOSED not in reason:
            print(f"  feed   lost: {reason}", flush=True)

    def back(self, gap: Gap) -> None:
        """Tell that it is back, and what was missed; emit `gap(after, seconds, trades)`."""
        after = gap.position or 0
        filled = f"{gap.messages:,} trades over REST, up to {after + gap.messages:,}"
        print(f"  feed   back: a gap of {gap.seconds:.1f} s after trade {after:,}")
        print(f"  feed   gap {'filled' if gap.filled else 'not filled'}: {filled}", flush=True)
        self.emit("gap", after, round(gap.seconds, 1), gap.messages)
