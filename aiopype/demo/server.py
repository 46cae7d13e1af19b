"""A quote server for the demo to poll, in place of the one on the internet that is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from aiohttp import web

from aiopype.demo.days import Day

__all__ = ["CLOSED", "quote", "quote_server"]

#: The status after the last day: there is nothing to come back for.
CLOSED = 410

#: New York's exchange has closed by then, in summer and in winter.
_CLOSING_TIME = "T21:00:00+0000"


@asynccontextmanager
async def quote_server(days: Iterable[Day]) -> AsyncIterator[str]:
    """Serve one day's quote after the other on a free port of loopback; yield the server's URL.

    Each GET of `/webservice/v1/symbols/AAPL/quote` is answered with the next day, and with 410
    when there is none.
    """
    remaining = iter(days)

    async def answer(_request: web.Request) -> web.Response:
        day = next(remaining, None)
        if day is None:
            return web.Response(status=CLOSED, text="the market is closed")
        return web.json_response(quote(day))

    app = web.Application()
    # HEAD would take a day too.
    app.router.add_get("/webservice/v1/symbols/AAPL/quote", answer, allow_head=False)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def quote(day: Day) -> dict[str, Any]:
    """Return the JSON for a day, in the form that Yahoo Finance had; numbers are texts there."""
    time = day.date + _CLOSING_TIME
    fields = {
        "name": "Apple Inc.",
        "price": day.close,
        "symbol": "AAPL",
        "ts": str(int(datetime.fromisoformat(time).timestamp())),
        "type": "equity",
        "utctime": time,
        "volume": day.volume,
    }
    return {
        "list": {
            "meta": {"type": "resource-list", "start": 0, "count": 1},
            "resources": [{"resource": {"classname": "Quote", "fields": fields}}],
        }
    }
