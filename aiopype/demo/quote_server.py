"""A quote server for the demo to poll, in place of the one on the internet that is gone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

from aiohttp import web

from aiopype.demo.days import Day
from aiopype.demo.serving import serving

__all__ = ["CLOSED", "quote", "quote_server"]

#: The status after the last day: there is nothing to come back for.
CLOSED = 410

#: New York's exchange has closed by then, in summer and in winter.
_CLOSING_TIME = "T21:00:00+0000"


def quote_server(days: Sequence[Day]) -> AbstractAsyncContextManager[str]:
    """Serve the quotes of days, the oldest first; yields `host:port`.

    A GET of `/webservice/v1/symbols/AAPL/quote` is answered with the first day, one with
    `since=<a day>` with the next after it, and with 410 when there is none.
    """
    dates = [day.date for day in days]

    async def answer(request: web.Request) -> web.Response:
        number = bisect_right(dates, request.query.get("since", ""))
        if number == len(days):
            return web.Response(status=CLOSED, text="the market is closed")
        return web.json_response(quote(days[number]))

    app = web.Application()
    app.router.add_get("/webservice/v1/symbols/AAPL/quote", answer)
    return serving(app)


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
