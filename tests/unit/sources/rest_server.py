"""A REST API on loopback with every fault there is, and what its sources are tested with."""

import asyncio
import gzip
from contextlib import asynccontextmanager, suppress
from functools import cache

from aiohttp import web

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
ISO_DATE = "2015-10-21T07:28:00+00:00"

PRICE = {"price": 1.5}


def answer(body=b'{"price": 1.5}', status=200, content_type="application/json", **headers):
    """Returns what answers a request; `Retry_After="7"` is a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        named["Content-Type"] = content_type

    async def respond(_request):
        return web.Response(body=body, status=status, headers=named)

    return respond


def tagged(body, tag):
    """Returns what answers with an ETag, or with 304 to who has it."""

    async def respond(request):
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.Response(body=body, headers={"ETag": tag, "Content-Type": "application/json"})

    return respond


@cache
def bomb():
    """64 MiB of spaces in 65 KB."""
    return gzip.compress(b" " * (64 << 20), 6)


class Server:
    """Answers each request by the next of its modes, and the last one again and again.

    A mode is the name of a method, or a function that makes a response of a request.
    """

    def __init__(self):
        self.modes = ["good"]
        self.requests = []
        self.bodies = []
        self.date = DATE
        self.sent = 0
        self.broken = 0
        self.closing = asyncio.Event()
        self.url = ""

    @property
    def queries(self):
        return [dict(request.query) for request in self.requests]

    async def respond(self, request):
        mode = self.modes[min(len(self.requests), len(self.modes) - 1)]
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await (getattr(self, mode) if isinstance(mode, str) else mode)(request)

    good = staticmethod(answer())
    status_500 = staticmethod(answer(status=500))
    status_404 = staticmethod(answer(status=404))
    status_429 = staticmethod(answer(b"slow down", 429, Retry_After="7"))
    garbage = staticmethod(answer(b"<html>"))
    not_utf_8 = staticmethod(answer(b'["\xff"]'))
    deep = staticmethod(answer(b"[" * 100_000))
    huge_number = staticmethod(answer(b"[1e400]"))
    page_for_people = staticmethod(answer(b"<h1>Maintenance</h1>", content_type="text/html"))
    empty = staticmethod(answer(b""))
    no_content = staticmethod(answer(b"", 204, None))
    not_modified = staticmethod(answer(b"", 304, None))
    not_gzip = staticmethod(answer(b"no gzip", Content_Encoding="gzip"))

    async def in_pieces(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b"[1", b", ", b"2", b"]"):
            await response.write(piece)
            await asyncio.sleep(0.002)
        return response

    async def never(self, _request):
        """No answer at all."""
        await self.closing.wait()
        return web.Response()

    async def slow(self, request):
        """A byte from time to time, so that the connection is never idle for long."""
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while not self.closing.is_set():
                await response.write(b" ")
                await asyncio.sleep(0.005)
        self.broken += 1
        return response

    async def broken_off(self, request):
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"[1, ")
        request.transport.close()
        return response

    async def broken_off_chunked(self, request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"[1, ")
        request.transport.close()
        return response

    async def dropped(self, request):
        request.transport.close()
        return web.Response()

    async def not_http(self, request):
        request.transport.write(b"220 smtp.example.com ESMTP\r\n\r\n")
        request.transport.close()
        return web.Response()

    async def round_and_round(self, request):
        raise web.HTTPFound(request.path)

    async def astray(self, _request):
        raise web.HTTPFound("file:///etc/passwd?key=secret")

    async def two_gigabytes(self, request):
        return await self._flood(request, {"Content-Length": str(2 << 30)})

    async def two_gigabytes_announced(self, request):
        """And not a byte of them."""
        response = web.StreamResponse(headers={"Content-Length": str(2 << 30)})
        await response.prepare(request)
        await self.closing.wait()
        return response

    async def two_gigabytes_in_chunks(self, request):
        return await self._flood(request, {})

    async def two_gigabytes_in_an_error(self, request):
        return await self._flood(request, {}, status=500)

    async def bomb(self, request):
        return web.Response(body=bomb(), headers={"Content-Encoding": "gzip"})

    async def _flood(self, request, headers, status=200):
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        with suppress(ConnectionError):
            while self.sent < 2 << 30 and not self.closing.is_set():
                await response.write(b" " * 65_536)
                self.sent += 65_536
        self.broken += 1
        return response

    async def set_date(self, _request, response):
        if self.date is None:
            del response.headers["Date"]
        else:
            response.headers["Date"] = self.date


@asynccontextmanager
async def running(server):
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.respond)
    app.on_response_prepare.append(server.set_date)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield server
    finally:
        server.closing.set()
        await runner.cleanup()


class Swift:
    """A clock that jumps: who sleeps goes on at once, and later it is.

    Attributes:
        slept: how long.
    """

    def __init__(self):
        self.now = 1_000_000_000.0
        self.slept = []

    def time(self):
        return self.now

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
