"""Requests for streams of server-sent events, and reading the answers."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp

from aiopype.sources.event_stream import StreamError
from aiopype.sources.http import gist, retry_after
from aiopype.sources.rest_messages import Request

__all__ = [
    "HEADERS",
    "LONGEST_RETRY_SECONDS",
    "StreamEnded",
    "StreamRefused",
    "ask",
    "probing_session",
    "read",
]

CONTENT_TYPE = "text/event-stream"

#: Of each request. Packed, a few bytes could become many in one piece.
HEADERS = {"Accept": CONTENT_TYPE, "Accept-Encoding": "identity", "Cache-Control": "no-store"}

#: A server that asks for more patience than this, by `retry:` or `Retry-After`, is asked again.
LONGEST_RETRY_SECONDS = 3_600.0

#: An answer lasts; its headers have a limit of their own.
_NO_LIMIT = aiohttp.ClientTimeout(total=None)

#: A host that does not answer is found to be gone after a minute.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class StreamEnded(StreamError):
    """The server has ended the stream, which it may."""


class StreamRefused(StreamError):
    """The server does not give the stream.

    Arguments:
        text: what is the matter.
        status: of the answer.
        after_seconds: what the server said before it wants to be asked again.
    """

    def __init__(self, text: str, status: int, after_seconds: float) -> None:
        super().__init__(text)
        self.status = status
        self.after_seconds = after_seconds


def probing_session() -> aiohttp.ClientSession:
    """Return a session whose connections find out that the host is gone.

    The protocol has no ping: without TCP's probes such a connection would last.
    """
    connector = aiohttp.TCPConnector(socket_factory=_socket)
    return aiohttp.ClientSession(connector=connector, auto_decompress=False)


async def ask(
    session: aiohttp.ClientSession, request: Request, seconds: float, now: float
) -> aiohttp.ClientResponse:
    """Return the answer to a request: a stream, or the status 204.

    Arguments:
        seconds: until its headers are there.
        now: seconds since 1970.

    Raises:
        StreamError: there is none in time, or it is another one.
    """
    try:
        async with asyncio.timeout(seconds):
            response = await session.request(
                request.method,
                request.url,
                params=request.params,
                headers=request.headers,
                data=request.body,
                timeout=_NO_LIMIT,
            )
            if (error := await _fault(response, now)) is None:
                return response
    except TimeoutError as error:
        raise StreamError(f"no answer in {seconds:g} s") from error
    except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
        # Their texts have the whole URL, with what may be secret in its query.
        raise StreamError(type(error).__name__) from error
    except (aiohttp.ClientError, OSError) as error:
        raise StreamError(f"{type(error).__name__}: {error}") from error
    response.close()
    raise error


async def read(content: aiohttp.StreamReader) -> bytes:
    """Return the next bytes of a stream, whenever they come.

    Raises:
        StreamEnded: that was all.
        StreamError: it broke off.
    """
    try:
        chunk = await content.readany()
    except (aiohttp.ClientError, OSError) as error:
        raise StreamError(f"the stream broke: {type(error).__name__}: {error}") from error
    if not chunk:
        raise StreamEnded("the stream ended")
    return chunk


async def _fault(response: aiohttp.ClientResponse, now: float) -> StreamError | None:
    status = response.status
    if status == 204:
        return None
    if status != 200:
        text = await gist(response) or response.reason
        after = min(retry_after(response.headers, now), LONGEST_RETRY_SECONDS)
        return StreamRefused(f"status {status}: {text}", status, after)
    if response.content_type != CONTENT_TYPE:
        return StreamError(f"content type {response.content_type}, not {CONTENT_TYPE}")
    if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
        return StreamError(f"the stream is packed ({encoding}), which was not asked for")
    return None


def _socket(info: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(*info[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:  # not on every system
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
