"""A web application on loopback, for as long as a block runs."""

import aiohttp
import pytest
from aiohttp import web

from aiopype.demo.serving import serving


def application():
    async def answer(_request):
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", answer)
    return app


async def test_an_application_is_served_on_a_port_of_loopback_until_the_block_ends():
    async with aiohttp.ClientSession() as session:
        async with serving(application()) as server:
            assert server.startswith("127.0.0.1:")
            assert await (await session.get(f"http://{server}")).text() == "here"
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"http://{server}")


async def test_two_have_ports_of_their_own():
    async with serving(application()) as one, serving(application()) as other:
        assert one != other
