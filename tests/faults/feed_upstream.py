"""A websocket feed of numbers, and its history, with every fault there is.

`python -m` it, with a PORT and a FEED_PORT. Who sends anything to the feed is answered, and gets
the numbers from then on: `[7,1]`. `GET /history?after=N` has a thousand of those after N.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_feed
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from .upstream_server import UpstreamServer, serve

PAGE = 1_000

#: Frames that are written at once.
CHUNK = 1_000

#: Between two looks whether there is more to send.
LOOK_SECONDS = 0.005

#: Longer than anybody waits.
NEVER_SECONDS = 60.0

TWO_GIGABYTES = 2 << 30
PART = b" " * 65_536

TEXT, BINARY, MORE = 1, 2, 0


class FeedUpstream(UpstreamServer):
    """Does with each connection what its mode says, and with all that there are what it is told.

    Attributes:
        letter: a number that stands in what is malformed.
        history_faults: so many requests for the history fail, each in another way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.letter = 0
        self.history_faults = 0
        self._connections: set[ServerConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        return [*super().routes(), web.get("/history", self._history)]

    async def started(self) -> None:
        await serve_feed(
            self._follow, "127.0.0.1", int(os.environ["FEED_PORT"]), process_request=self._greet,
            ping_interval=None, compression=None, close_timeout=0.2,
        )  # fmt: skip

    def told(self, name: str, value: Any) -> None:
        if value is not None:
            super().told(name, value)
            return
        act: Callable[[ServerConnection], Awaitable[None]] = getattr(self, name)
        for connection in list(self._connections):
            task = asyncio.create_task(self._act(act, connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _act(self, act: Any, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed, ConnectionError):
            await act(connection)

    # --- connections

    async def _greet(self, connection: ServerConnection, _request: Request) -> Response | None:
        self.counts[self.mode] += 1
        if self.mode == "refuses":
            return connection.respond(503, "come back later")
        if self.mode == "hangs":
            await asyncio.sleep(NEVER_SECONDS)
        return None

    async def _follow(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed, ConnectionError):
            if self.mode == "closes":
                await self._close_soon(connection)
                return
            await connection.recv()
            last = self.last
            await connection.send('"subscribed"')
            self._connections.add(connection)
            try:
                await self._send_on(connection, last)
            finally:
                self._connections.discard(connection)
            await connection.wait_closed()

    async def _close_soon(self, connection: ServerConnection) -> None:
        ways = self.counts["closes"] % 3
        if ways == 2:
            await connection.recv()
            await connection.send('"subscribed"')
        if ways == 1:
            await connection.close(1013, "try again later")
        else:
            connection.transport.abort()

    async def _send_on(self, connection: ServerConnection, last: int) -> None:
        while connection in self._connections:
            first, last = last + 1, min(self.last, last + CHUNK)
            frames = [_frame(b"[%d,1]" % number) for number in range(first, last + 1)]
            await _write(connection, b"".join(frames))
            await asyncio.sleep(0 if last < self.last else LOOK_SECONDS)

    # --- what may be done to them

    async def breaks_off(self, connection: ServerConnection) -> None:
        connection.transport.abort()

    async def closes_well(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        await connection.close(1001, "going away")

    async def half_open(self, connection: ServerConnection) -> None:
        """Be there, and read and send nothing any more."""
        self._connections.discard(connection)
        connection.transport.pause_reading()

    async def malformed(self, connection: ServerConnection) -> None:
        texts = [b'{"letter": %d, ', b"\xff letter: %d", b"[letter: %d, NaN"]
        for kind, text in zip((TEXT, TEXT, BINARY), texts, strict=True):
            await _write(connection, _frame(text % self.letter, kind))

    async def no_frame(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        await _write(connection, b"\xff" * 64)

    async def large(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        await _write(connection, b"\x81\x7f" + TWO_GIGABYTES.to_bytes(8, "big"))
        await self._fill(connection, PART)

    async def large_in_parts(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        await _write(connection, _frame(PART, TEXT, is_last=False))
        await self._fill(connection, _frame(PART, MORE, is_last=False))

    async def _fill(self, connection: ServerConnection, part: bytes) -> None:
        for _ in range(TWO_GIGABYTES // len(PART)):
            await _write(connection, part)
            await asyncio.sleep(0)

    # --- the history

    async def _history(self, request: web.Request) -> web.StreamResponse:
        after = int(request.query["after"])
        numbers = list(range(after + 1, min(after + PAGE, self.last) + 1))
        if self.history_faults <= 0:
            return web.json_response(numbers)
        self.history_faults -= 1
        if self.history_faults % 3 == 0:
            return web.Response(status=500)
        if self.history_faults % 3 == 1:
            return web.Response(body=b"[1, 2", content_type="application/json")
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        assert request.transport is not None
        request.transport.close()
        return response


async def _write(connection: ServerConnection, data: bytes) -> None:
    """Write what the library would not; wait until the other side takes more."""
    if connection.transport.is_closing():
        raise ConnectionResetError
    connection.transport.write(data)
    await connection.drain()


def _frame(data: bytes, kind: int = TEXT, *, is_last: bool = True) -> bytes:
    first = kind | (0x80 if is_last else 0)
    if len(data) < 126:
        return bytes((first, len(data))) + data
    return bytes((first, 127)) + len(data).to_bytes(8, "big") + data


if __name__ == "__main__":
    asyncio.run(serve(FeedUpstream()))
