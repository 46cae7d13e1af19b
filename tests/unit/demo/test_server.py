"""The quote server, over real HTTP on loopback."""

import aiohttp

from aiopype.demo.server import quote_server

QUOTE = "/webservice/v1/symbols/AAPL/quote?format=json&view=detail"


async def test_each_get_is_answered_with_the_next_day_in_yahoos_form(days):
    async with quote_server(days) as server, aiohttp.ClientSession() as session:
        answers = [await (await session.get(server + QUOTE)).json() for _ in days]

    assert answers[0] == {
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
    fields = [answer["list"]["resources"][0]["resource"]["fields"] for answer in answers]
    assert [(f["utctime"][:10], f["price"], f["volume"]) for f in fields] == days


async def test_after_the_last_day_every_get_is_told_that_the_market_is_closed(days):
    async with quote_server(days[:1]) as server, aiohttp.ClientSession() as session:
        answers = [await session.get(server + QUOTE) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 410, 410]
        assert await answers[-1].text() == "the market is closed"


async def test_what_is_no_get_of_the_quote_takes_no_day(days):
    async with quote_server(days) as server, aiohttp.ClientSession() as session:
        assert (await session.head(server + QUOTE)).status == 405
        assert (await session.get(server + QUOTE.replace("AAPL", "MSFT"))).status == 404
        answer = await (await session.get(server + QUOTE)).json()
    assert answer["list"]["resources"][0]["resource"]["fields"]["price"] == days[0].close


async def test_each_server_starts_with_the_first_day_on_a_port_of_its_own(days):
    async with quote_server(days) as one, quote_server(days) as other:
        assert one != other
        async with aiohttp.ClientSession() as session:
            first = await (await session.get(one + QUOTE)).json()
            assert first == await (await session.get(other + QUOTE)).json()
