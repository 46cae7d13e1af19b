"""A REST API that can be read again, with every fault there is: `python -m` it, with a PORT.

`GET /items?since=N` has the ten items after N and, if there are more, a link to the next page.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from .upstream_server import UpstreamServer, serve

PAGE = 10

#: What is sent where more is announced or none is: beyond what its source takes.
LARGE_BYTES = 1 << 20

TWO_GIGABYTES = 2 << 30
PIECE = b" " * 65_536

#: Slower than its source waits.
SLOW_SECONDS = 60.0

RETRY_AFTER_SECONDS = 1


class RestUpstream(UpstreamServer):
    """Answers as its mode says.

    Attributes:
        letter: a number that stands in what is malformed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.letter = 0
        self._wait_until = 0.0

    def routes(self) -> list[web.RouteDef]:
        return [*super().routes(), web.get("/items", self._items)]

    async def _items(self, request: web.Request) -> web.StreamResponse:
        self.counts[self.mode] += 1
        if time.monotonic() < self._wait_until:
            self.counts["too soon"] += 1
        answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = getattr(self, self.mode)
        return await answer(request)

    async def good(self, request: web.Request) -> web.StreamResponse:
        since, last = int(request.query.get("since", "0")), self.last
        numbers = range(since + 1, min(since + PAGE, last) + 1)
        headers = {}
        if numbers and numbers[-1] < last:
            headers["Link"] = f'<{request.url.with_query(since=numbers[-1])}>; rel="next"'
        return web.json_response({"items": list(numbers)}, headers=headers)

    async def status_500(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=500, text="it is broken")

    async def status_503(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    async def status_410(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=410)

    async def status_429(self, _request: web.Request) -> web.StreamResponse:
        self._wait_until = time.monotonic() + RETRY_AFTER_SECONDS
        return web.Response(status=429, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})

    async def malformed(self, _request: web.Request) -> web.StreamResponse:
        text = f'{{"letter": {self.letter}, "items": [1, '
        return web.Response(text=text, content_type="application/json")

    async def page_for_people(self, _request: web.Request) -> web.StreamResponse:
        text = f"<h1>Maintenance, letter: {self.letter}</h1>"
        return web.Response(text=text, content_type="text/html")

    async def redirect_loop(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(request.rel_url)

    async def dropped(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def no_http(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"220 smtp.example.com ESMTP\r\n\r\n")  # type: ignore[attr-defined]
        request.transport.close()
        return web.Response()

    async def cut(self, request: web.Request) -> web.StreamResponse:
        body = await self._some_body(request)
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    async def cut_in_chunks(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(await self._some_body(request))
        assert request.transport is not None
        request.transport.close()  # all of it, but not the chunk that says so
        return response

    async def silent(self, _request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(SLOW_SECONDS)
        return web.Response()

    async def slow(self, request: web.Request) -> web.StreamResponse:
        """Byte by byte, so that the connection is never idle for long."""
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            for byte in await self._some_body(request):
                await response.write(bytes([byte]))
                await asyncio.sleep(SLOW_SECONDS / 100)
        return response

    async def large(self, request: web.Request) -> web.StreamResponse:
        return await self._fill(request, LARGE_BYTES, {"Content-Length": str(LARGE_BYTES)})

    async def large_in_chunks(self, request: web.Request) -> web.StreamResponse:
        return await self._fill(request, LARGE_BYTES, {})

    async def two_gigabytes(self, request: web.Request) -> web.StreamResponse:
        return await self._fill(request, TWO_GIGABYTES, {"Content-Length": str(TWO_GIGABYTES)})

    async def two_gigabytes_in_chunks(self, request: web.Request) -> web.StreamResponse:
        return await self._fill(request, TWO_GIGABYTES, {})

    async def two_gigabytes_packed(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Encoding": "deflate"})
        await response.prepare(request)
        pack = zlib.compressobj()
        with suppress(ConnectionError):
            for _ in range(TWO_GIGABYTES // len(PIECE)):
                await response.write(pack.compress(PIECE) + pack.flush(zlib.Z_SYNC_FLUSH))
                await asyncio.sleep(0)  # else nobody sees that the other side has gone
        return response

    async def _fill(
        self, request: web.Request, size: int, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        with suppress(ConnectionError):
            for _ in range(size // len(PIECE)):
                await response.write(PIECE)
                await asyncio.sleep(0)
        return response

    async def _some_body(self, request: web.Request) -> bytes:
        """Return what leaves an item out: whoever uses it has lost one."""
        since = int(request.query.get("since", "0"))
        return json.dumps({"items": list(range(since + 2, since + PAGE + 1))}).encode()


if __name__ == "__main__":
    asyncio.run(serve(RestUpstream()))
