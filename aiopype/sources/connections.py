"""A connection to a websocket server: sending, reading, and noticing that it is dead.

What the frames mean is not known here. The client is aiohttp's: a frame costs it 0.8 µs of
processor time, the `websockets` package 3.0 (measured with 97 bytes of JSON a frame), and it reads
no further than 128 KiB ahead, so who takes frames slowly slows down the server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from aiohttp import WSMsgType

from aiopype.clock import Clock
from aiopype.errors import SourceError
from aiopype.inputs import RawInput
from aiopype.logs import about
from aiopype.sources.feed_options import FeedOptions
from aiopype.sources.http import retry_after

__all__ = [
    "BINARY",
    "TROUBLE",
    "Connection",
    "ConnectionLost",
    "Message",
    "beside",
    "connect",
    "encode_message",
]

logger = logging.getLogger(__name__)

#: What can be sent: a text, bytes, or what becomes a text with the JSON of it.
Message = str | bytes | Mapping[str, Any] | list[Any]

#: For the other side to answer a close frame.
CLOSE_SECONDS = 1.0

#: Between two looks whether all that came has been read.
LOOK_SECONDS = 0.05

#: A turn of the event loop that looks into the socket: a moment at which something is due.
TURN_SECONDS = 0.001

#: The `meta` of a frame that is no text.
BINARY = {"binary": True}

#: Close codes (RFC 6455, 7.4.1) that no frame carries: none was given; none came.
NO_CODE, NO_FRAME = 1005, 1006

#: What goes wrong between here and the other side.
TROUBLE = (aiohttp.ClientError, OSError, TimeoutError)


class ConnectionLost(SourceError):
    """A connection has ended, or could not be made; the source tries again.

    Arguments:
        reason: why, in words.
        code: the websocket's close code, where one came.
        after_seconds: how long the server asked to be left alone.

    Attributes:
        was_healthy: it was connected long enough that this is no error of the upstream.
    """

    def __init__(self, reason: str, code: int | None = None, after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.code = code
        self.after_seconds = after_seconds
        self.was_healthy = False


class Connection:
    """One connection, from its handshake to its end.

    One task reads, any may send.

    Arguments:
        websocket: aiohttp's, which must not answer pings by itself: then nothing of them is seen.
        timeout_seconds: how long the other side may take to answer a ping, or to take what is sent.
        clock: the time of frames.

    Attributes:
        is_waiting: everything that came has been read. Only then does silence mean anything: while
            the pipeline is slow nobody reads, and answers lie in the socket.
        heard_at: when the last frame came, pings and pongs included, by the event loop's clock.
    """

    def __init__(
        self,
        websocket: aiohttp.ClientWebSocketResponse[bool],
        timeout_seconds: float,
        clock: Clock,
    ) -> None:
        self._websocket = websocket
        self._timeout_seconds = timeout_seconds
        self._time = clock.time
        self._now = asyncio.get_running_loop().time
        self._given_up: str | None = None
        self.is_waiting = False
        self.heard_at = self._now()

    async def send(self, message: Message) -> None:
        """Send a text, bytes, or the JSON of a dict or list.

        Raises:
            ConnectionLost: the connection has ended, or the other side takes nothing.
            TypeError: the message has no JSON form.
        """
        data = encode_message(message)
        kind = WSMsgType.BINARY if isinstance(message, bytes) else WSMsgType.TEXT
        await self._send(data, kind)

    async def receive(self) -> str | bytes:
        """Return the next frame; for `on_connect`, where an answer has to be awaited.

        What is taken here is not emitted.

        Raises:
            ConnectionLost: the connection has ended.
        """
        raw = await self.read()
        return raw.data if raw.meta else raw.data.decode()

    async def read(self) -> RawInput:
        """Return the next frame with data; what has come already is returned without waiting.

        Raises:
            ConnectionLost: the connection has ended.
        """
        while True:
            self.is_waiting = True
            message = await self._websocket.receive()
            self.is_waiting = False
            self.heard_at = self._now()
            kind = message.type
            if kind is WSMsgType.TEXT:
                return RawInput("frame", message.data, self._time())
            if kind is WSMsgType.BINARY:
                return RawInput("frame", message.data, self._time(), BINARY)
            if kind is WSMsgType.PING:
                await self._send(message.data, WSMsgType.PONG)
            elif kind is not WSMsgType.PONG:
                raise self._end(message)

    async def ping(self) -> None:
        """Send a ping of the protocol."""
        await self._send(b"", WSMsgType.PING)

    async def ping_when_quiet(self, interval: float, ping: Callable[[], Awaitable[None]]) -> None:
        """Ping whenever nothing came for `interval` seconds; give up when nothing follows.

        It ends when the connection does.
        """
        try:
            while True:
                left = self.heard_at + interval - self._now()
                if left > 0 or not self.is_waiting:
                    await asyncio.sleep(max(left, LOOK_SECONDS))
                    continue
                heard = self.heard_at
                await ping()
                await asyncio.sleep(self._timeout_seconds)
                if self.heard_at == heard:
                    await self.give_up(f"no answer to a ping in {self._timeout_seconds:g} s")
        except ConnectionLost:
            return  # the one that reads finds the reason

    async def answered(self, answer: asyncio.Event, to: str) -> None:
        """Wait for an answer, which the one that reads notes; give up when it does not come."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await answer.wait()
        except TimeoutError:
            while not (answer.is_set() or await self._has_read_all()):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_SECONDS)
            if not answer.is_set():
                await self.give_up(f"no answer to {to} in {self._timeout_seconds:g} s")

    async def _has_read_all(self) -> bool:
        """Say whether nothing lies unread, in the socket neither: it has been looked into since."""
        if not self.is_waiting:
            return False
        heard = self.heard_at
        await asyncio.sleep(TURN_SECONDS)
        return self.is_waiting and self.heard_at == heard

    async def give_up(self, reason: str) -> None:
        """Have whoever reads find that the connection is lost, for this reason."""
        self._given_up = self._given_up or reason
        await self._websocket.close()

    async def close(self) -> None:
        """Send a close frame and close the connection, in a second at most."""
        patience = CLOSE_SECONDS if self._given_up is None else 0.0
        try:
            async with asyncio.timeout(patience):
                await self._websocket.close()
        except TimeoutError:
            pass  # it is closed all the same

    async def _send(self, data: bytes, kind: WSMsgType) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._websocket.send_frame(data, kind)
        except TimeoutError:
            reason = f"the other side took nothing for {self._timeout_seconds:g} s"
            await self.give_up(reason)
            raise ConnectionLost(reason) from None
        except TROUBLE as error:
            raise ConnectionLost(self._given_up or f"{type(error).__name__}: {error}") from error

    def _end(self, message: Any) -> ConnectionLost:
        if self._given_up is not None:
            return ConnectionLost(self._given_up)
        if message.type is WSMsgType.CLOSE:
            code = message.data or NO_CODE
            text = f": {message.extra}" if message.extra else ""
            return ConnectionLost(f"the other side closed it with {code}{text}", code)
        if message.type is WSMsgType.ERROR:
            code = self._websocket.close_code
            return ConnectionLost(f"{type(message.data).__name__}: {message.data}", code)
        return ConnectionLost(f"it broke off without a close frame ({NO_FRAME})", NO_FRAME)


async def connect(
    session: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    options: FeedOptions,
    clock: Clock,
) -> Connection:
    """Make a connection.

    Raises:
        ConnectionLost: the server refuses it.
        Exception: one of TROUBLE, of the network.
    """
    try:
        websocket = await session.ws_connect(
            url,
            headers=headers,
            protocols=options.subprotocols,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
            autoping=False,
            compress=15 if options.compression else 0,
            max_msg_size=options.largest_bytes + 1,  # aiohttp refuses one of that size
            decode_text=False,
        )
    except aiohttp.ClientResponseError as error:
        reason = f"the handshake failed with status {error.status}: {error.message}"
        after = retry_after(error.headers or {}, clock.time())
        raise ConnectionLost(reason, after_seconds=after) from error
    return Connection(websocket, options.heartbeat_timeout, clock)


def encode_message(message: Message) -> bytes:
    """Return what is sent for a message.

    Raises:
        TypeError: it has no JSON form.
    """
    if isinstance(message, str):
        return message.encode()
    return message if isinstance(message, bytes) else msgspec.json.encode(message)


@asynccontextmanager
async def beside(name: str, *works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run works in tasks of their own until the block has ended; their end is awaited.

    What one of them raises is logged: it is a fault of the program.
    """
    tasks = [asyncio.create_task(work, name=f"beside {name}") for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                logger.error("a task beside %s raised", name, exc_info=ended, extra=about(name))
