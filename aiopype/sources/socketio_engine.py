"""python-engineio's client, made to be slowed down, to be closed, and to say what is wrong."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import aiohttp
import engineio
from engineio.base_client import connected_clients
from engineio.exceptions import ConnectionError as Refused

from aiopype.sources.connections import ConnectionLost
from aiopype.sources.http import retry_after

__all__ = ["Engine", "Log", "lost_by"]

#: What the library says when the server's ping does not come.
_SAID_BETTER = dict.fromkeys(
    ("Server has stopped communicating", "packet queue is empty"), "no ping of the server in time"
)


class Engine(engineio.AsyncClient):  # type: ignore[misc]
    """Waits for the handler of a message before it reads the next one.

    The library's own way is a task for each message: without a bound, and in no order.
    """

    async def _trigger_event(self, event: str, *args: Any, run_async: bool = False) -> Any:
        if run_async:
            return await self.handlers[event](*args)
        return await super()._trigger_event(event, *args, run_async=False)

    def forget(self) -> None:
        """Leave the library's list of clients: where closing is cut short it stays in it."""
        with suppress(ValueError):
            connected_clients.remove(self)


class Log:
    """Takes what the library logs: the last trouble is why a connection has ended."""

    def __init__(self) -> None:
        self.last = "the connection has ended"

    def info(self, text: str, *args: object) -> None:
        """Pass over what is usual."""

    def warning(self, text: str, *args: object) -> None:
        """Keep what is not."""
        text = (text % args if args else text).removesuffix(", aborting")
        self.last = _SAID_BETTER.get(text, text)

    error = exception = warning


def lost_by(error: Exception, now: float) -> ConnectionLost:
    """Return what an error of connecting means.

    Arguments:
        now: seconds since 1970.
    """
    # The library says "Connection error" of whatever aiohttp raised.
    cause = error.__context__ if isinstance(error, Refused) and error.__context__ else error
    if isinstance(cause, aiohttp.WSServerHandshakeError):
        reason = f"the handshake was refused with status {cause.status}: {cause.message}"
        after = retry_after(cause.headers or {}, now)
        return ConnectionLost(reason, after_seconds=after)
    return ConnectionLost(f"{type(cause).__name__}: {cause}")
