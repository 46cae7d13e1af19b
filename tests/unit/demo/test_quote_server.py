"""The quote server, over real HTTP on loopback."""

from contextlib import asynccontextmanager

import aiohttp
import pytest

from aiopype.demo.quote_server import quote_server

QUOTE = "/webservice/v1/symbols/AAPL/quote?format=json&view=detail"


@pytest.fixture
def client(days):
    """A client of a server of the days."""

    @asynccontextmanager
    async def connected():
        async with (
            quote_server(days) as server,
            aiohttp.ClientSession(f"http://{server}") as session,
        ):
            yield session

    return connected


async def asked(session, since):
    answer = await session.get(f"{QUOTE}&since={since}")
    fields = (await answer.json())["list"]["resources"][0]["resource"]["fields"]
    return fields["utctime"][:10], fields["price"], fields["volume"]


async def test_a_get_is_answered_with_the_first_day_in_yahoos_form(client):
    async with client() as session:
        first, again = [await (await session.get(QUOTE)).json() for _ in range(2)]

    assert first == again
    assert first == {
        "list": {
            "meta": {"type": "resource-list", "start": 0, "count": 1},
            "resources": [
                {
                    "resource": {
                        "classname": "Quote",
                        "fields": {
                            "name": "Apple Inc.",
                            "price": "161.36",
                            "symbol": "AAPL",
                            "ts": "1200690000",
                            "type": "equity",
                            "utctime": "2008-01-18T21:00:00+0000",
                            "volume": "49999999",
                        },
                    }
                }
            ],
        }
    }


async def test_one_with_since_is_answered_with_the_next_day_after_it(client, days):
    async with client() as session:
        for before, day in zip(["", *(day.date for day in days)], days, strict=False):
            assert await asked(session, before) == day
        assert await asked(session, "2008-01-19") == days[1]


async def test_after_the_last_day_every_get_is_told_that_the_market_is_closed(client, days):
    async with client() as session:
        answers = [await session.get(f"{QUOTE}&since={days[-1].date}") for _ in range(2)]
        assert [answer.status for answer in answers] == [410, 410]
        assert await answers[-1].text() == "the market is closed"


async def test_there_are_no_quotes_of_other_symbols(client):
    async with client() as session:
        assert (await session.get(QUOTE.replace("AAPL", "MSFT"))).status == 404
