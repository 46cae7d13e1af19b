"""How the exchange is reached, over a real websocket and HTTP on loopback."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import WSMsgType

from aiopype.demo.trade_server import CLOSED, trade_server

SECONDS = 10  # to wait at most for what comes in a second


@pytest.fixture
def client(exchange):
    """A client of a server of an exchange with these options; a trade happens each millisecond."""

    @asynccontextmanager
    async def connected(**options):
        made = exchange(interval_seconds=0.001, **options)
        async with (
            asyncio.timeout(SECONDS),
            trade_server(made) as server,
            aiohttp.ClientSession(f"http://{server}") as session,
        ):
            yield session

    return connected


async def numbers_of(websocket):
    """The numbers of the trades that come, and how the connection ends."""
    numbers = []
    while (message := await websocket.receive()).type is WSMsgType.TEXT:
        numbers.append(message.json()["number"])
    return numbers, message


async def test_who_listens_from_the_beginning_gets_every_trade_and_is_told_of_the_end(client):
    async with client() as session, session.ws_connect("/feed") as websocket:
        first = await websocket.receive_json()
        numbers, end = await numbers_of(websocket)
    assert first == {"number": 1, "price": 20.25}
    assert numbers == list(range(2, 101))
    assert (end.type, end.data, end.extra) == (WSMsgType.CLOSE, 1000, CLOSED)


async def test_who_comes_later_gets_what_happens_from_then_on(client):
    async with client() as session, session.ws_connect("/feed") as first:
        while (await first.receive_json())["number"] < 20:
            pass
        async with session.ws_connect("/feed") as second:
            numbers, _ = await numbers_of(second)
    assert numbers == list(range(numbers[0], 101))
    assert numbers[0] > 20


async def test_after_the_end_nothing_comes_but_the_end(client):
    async with client() as session:
        async with session.ws_connect("/feed") as websocket:
            await numbers_of(websocket)
        async with session.ws_connect("/feed") as websocket:
            numbers, end = await numbers_of(websocket)
    assert (numbers, end.extra) == ([], CLOSED)


async def test_a_listener_is_cut_off_without_a_word_and_refused_until_the_line_is_back(client):
    async with client(outage=range(20, 90)) as session:
        async with session.ws_connect("/feed") as websocket:
            numbers, end = await numbers_of(websocket)
        assert numbers == list(range(1, 21))
        assert end.type is not WSMsgType.CLOSE

        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/feed")
        assert refused.value.status == 503

        while True:
            try:
                async with session.ws_connect("/feed") as websocket:
                    _, end = await numbers_of(websocket)
            except aiohttp.WSServerHandshakeError:
                await asyncio.sleep(0.001)
            else:
                break
    assert end.extra == CLOSED


async def test_trades_are_asked_for_while_the_line_is_cut(client):
    async with client(outage=range(20, 100)) as session:
        async with session.ws_connect("/feed") as websocket:
            await numbers_of(websocket)
        found = []
        while len(found) < 90:
            found = await (await session.get("/trades", params={"after": 10})).json()
    assert found[0] == {"number": 11, "price": 22.75}
    assert [trade["number"] for trade in found] == list(range(11, 101))


async def test_asking_does_not_open_the_exchange(client):
    async with client() as session:
        for _ in range(2):
            assert await (await session.get("/trades", params={"after": 0})).json() == []


async def test_a_listener_that_leaves_is_answered_at_once(client):
    async with client() as session:
        websocket = await session.ws_connect("/feed")
        await websocket.receive_json()
        await websocket.close()
        assert websocket.close_code == 1000
