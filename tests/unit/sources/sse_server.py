"""A server of event streams on loopback, and what a source that follows it is tested with."""

import asyncio
from contextlib import asynccontextmanager, suppress

from aiohttp import web

TYPE = "text/event-stream"


class Server:
    """Answers each request by the next of its modes, and the last one again and again.

    A mode is the name of a method, or the bytes of a stream that is open until the test ends.
    """

    def __init__(self):
        self.modes = [b""]
        self.requests = []
        self.closing = asyncio.Event()
        self.sent = 0
        self.retry_after = "7"
        self.url = ""

    async def answer(self, request):
        mode = self.modes[min(len(self.requests), len(self.modes) - 1)]
        self.requests.append(request)
        if isinstance(mode, bytes):
            return await self.stream(request, mode)
        return await getattr(self, mode)(request)

    async def stream(self, request, *chunks, stay=True, **headers):
        response = web.StreamResponse(headers={"Content-Type": TYPE, **headers})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if stay:
            await self.closing.wait()
        return response

    async def replay(self, request):
        """Send the ten events after Last-Event-ID, break off after each third one."""
        first = int(request.headers.get("Last-Event-ID", "0")) + 1
        response = web.StreamResponse(headers={"Content-Type": TYPE})
        await response.prepare(request)
        for number in range(first, 11):
            if number > first + 2:
                await response.write(b'id: 99\ndata: "half an event"\n')
                request.transport.close()
                return response
            await response.write(b"id: %d\ndata: %d\n\n" % (number, number))
        await self.closing.wait()
        return response

    async def flood(self, request):
        """Send as fast as the client reads: 100 events of 200 bytes at a time."""
        response = web.StreamResponse(headers={"Content-Type": TYPE})
        await response.prepare(request)
        body = b'data: "%s"\n\n' % (b"x" * 190) * 100
        with suppress(ConnectionError):
            while not self.closing.is_set():
                await response.write(body)
                self.sent += 100
        return response

    async def endless(self, request):
        response = web.StreamResponse(headers={"Content-Type": TYPE})
        await response.prepare(request)
        await response.write(b"data: ")
        with suppress(ConnectionError):
            while not self.closing.is_set():
                await response.write(b"x" * 65_536)
                self.sent += 65_536
        return response

    async def slow(self, request):
        """Send an event in pieces, with turns of the loop between."""
        response = web.StreamResponse(headers={"Content-Type": TYPE})
        await response.prepare(request)
        for byte in 'data: "€"\r\n\r\n'.encode():
            await response.write(bytes([byte]))
            await asyncio.sleep(0.001)
        await self.closing.wait()
        return response

    async def late(self, request):
        response = web.StreamResponse(headers={"Content-Type": TYPE})
        await response.prepare(request)
        await asyncio.sleep(0.1)
        await response.write(b"data: 1\n\n")
        await self.closing.wait()
        return response

    async def broken_off(self, request):
        response = web.StreamResponse(headers={"Content-Type": TYPE})
        await response.prepare(request)
        await response.write(b"data")
        request.transport.close()
        return response

    async def ends(self, request):
        return await self.stream(request, b"data: 1\n\n", stay=False)

    async def ends_at_once(self, request):
        return await self.stream(request, stay=False)

    async def ends_soon(self, request):
        return await self.stream(request, b"retry: 250\ndata: 1\n\n", stay=False)

    async def ends_late(self, request):
        return await self.stream(request, b"retry: 99000000000\ndata: 1\n\n", stay=False)

    async def over(self, _request):
        return web.Response(status=204)

    async def status_500(self, _request):
        return web.Response(status=500, text="out of cheese")

    async def status_401(self, _request):
        return web.Response(status=401)

    async def status_404(self, _request):
        return web.Response(status=404)

    async def status_429(self, _request):
        return web.Response(status=429, headers={"Retry-After": self.retry_after})

    async def json(self, _request):
        return web.json_response([1])

    async def zipped(self, request):
        return await self.stream(request, b"data: 1\n\n", **{"Content-Encoding": "br"})

    async def mute(self, _request):
        await self.closing.wait()
        return web.Response()

    async def moved(self, _request):
        raise web.HTTPTemporaryRedirect("/there")

    async def there(self, request):
        return await self.stream(request, b'data: "there"\n\n')


@asynccontextmanager
async def running(server):
    app = web.Application()
    app.router.add_get("/", server.answer)
    app.router.add_get("/there", server.there)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield
    finally:
        server.closing.set()
        await runner.cleanup()


class HandClock:
    """A clock that stands, and jumps over what it is asked to wait."""

    def __init__(self):
        self.now = 1_000_000.0
        self.pauses = []

    def time(self):
        return self.now

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
