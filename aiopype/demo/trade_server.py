"""How the demo's exchange is reached: trades as they happen over a websocket, and over REST."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress

import msgspec
from aiohttp import web

from aiopype.demo.exchange import Exchange
from aiopype.demo.serving import serving

__all__ = ["CLOSED", "trade_server"]

#: What the websocket is closed with after the last trade.
CLOSED = "the market is closed"


def trade_server(exchange: Exchange) -> AbstractAsyncContextManager[str]:
    """Serve the trades of an exchange, which opens for whoever first listens; yields `host:port`.

    - `/feed` is a websocket with each trade that happens from then on. While the line is cut it is
      refused, and whoever listens when that begins is cut off without a word.
    - A GET of `/trades?after=<number>` is answered with all that have happened after that one.
    """

    async def feed(request: web.Request) -> web.WebSocketResponse:
        if exchange.is_cut_off:
            raise web.HTTPServiceUnavailable
        # Before the answer: then nothing is between what is sent and what one asks for after it.
        sent = exchange.happened
        exchange.open()
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        if await _send_trades(exchange, sent, websocket):
            await websocket.close(message=CLOSED.encode())
        elif request.transport is not None:
            request.transport.abort()
        return websocket

    async def trades(request: web.Request) -> web.Response:
        found = exchange.after(int(request.query["after"]))
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    app = web.Application()
    app.router.add_get("/feed", feed)
    app.router.add_get("/trades", trades)
    return serving(app)


async def _send_trades(exchange: Exchange, sent: int, websocket: web.WebSocketResponse) -> bool:
    """Send what happens after a trade, until there is no more; return False when the line is cut.

    It ends too when the other side has left.
    """
    cut = exchange.outage.start if sent < exchange.outage.start else None
    while not websocket.closed and sent < len(exchange.trades):
        for trade in exchange.after(sent):
            if sent == cut:
                return False
            await websocket.send_str(msgspec.json.encode(trade).decode())
            sent = trade.number
        with suppress(TimeoutError):  # a pause, in which a close frame is answered
            await websocket.receive(timeout=exchange.interval_seconds)
    return True
