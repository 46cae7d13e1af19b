"""A source that polls a REST API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec

from aiopype.emitter import MessageHandler
from aiopype.errors import ConfigurationError
from aiopype.source import Source

__all__ = ["RestSource"]

#: An answer that has not come whole in this time is an error.
ANSWER_SECONDS = 30.0

#: Longest answer that is read into memory.
ANSWER_BYTES = 16 * 1024 * 1024

_DEFAULTS = {"request_interval": 30, "exception_threshold": 10}


class RestSource(Source):
    """Asks a URL again and again and emits each answer.

    Emits `data(json, time)`: the parsed JSON, and the server's time of the answer as text
    (ISO 8601, UTC; from its `Date` header, or this worker's clock where it sends none).

    An error (no connection, a status from 400 on, no JSON, over 30 s or 16 MiB) is logged and
    counted; the next request comes after the interval. A good answer sets the count to zero.

    Arguments:
        name, handler: as for every component.
        url: what to GET.
        options: `request_interval`, seconds between the starts of two requests (30); and
            `exception_threshold`, errors in a row after which the source gives up (10).

    Raises:
        ConfigurationError: an unknown option, or one that is not a positive number.
    """

    events = ("data",)

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        url: str,
        options: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(name, handler)
        self.url = url
        given = dict(options or {})
        unknown = sorted(set(given) - set(_DEFAULTS))
        if unknown:
            raise ConfigurationError(
                f"source {name!r} has no option {unknown[0]!r}; there are {sorted(_DEFAULTS)}"
            )
        for option, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ConfigurationError(f"source {name!r}: {option}={value!r} must be above 0")
        merged = _DEFAULTS | given
        self.request_interval = merged["request_interval"]
        self.exception_threshold = merged["exception_threshold"]

    async def start(self) -> None:
        """Poll for ever.

        Raises:
            aiohttp.ClientError, TimeoutError, ValueError: the last of too many errors in a row.
        """
        loop = asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        failures = 0
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                began = loop.time()
                try:
                    data, time = await self._ask(session)
                except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                    failures += 1
                    await self.error_handler(error)
                    if failures >= self.exception_threshold:
                        raise
                else:
                    failures = 0
                    await self.emit_async("data", data, time)
                await asyncio.sleep(max(0.0, began + self.request_interval - loop.time()))

    async def error_handler(self, error: Exception) -> None:
        """Called with each error; may be overridden. What it raises ends `start`."""
        self.logger.warning("GET %s: %s: %s", self.url, type(error).__name__, error)

    async def _ask(self, session: aiohttp.ClientSession) -> tuple[Any, str]:
        async with session.get(self.url, raise_for_status=True) as answer:
            body = await answer.content.read(ANSWER_BYTES + 1)
            while not answer.content.at_eof() and len(body) <= ANSWER_BYTES:
                body += await answer.content.read(ANSWER_BYTES + 1 - len(body))
            if len(body) > ANSWER_BYTES:
                raise ValueError(f"the answer is longer than {ANSWER_BYTES} bytes")
            return _parse(body), _server_time(answer.headers.get("Date"))


def _parse(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except RecursionError as error:
        raise ValueError("the answer is nested too deeply") from error


def _server_time(date: str | None) -> str:
    try:
        moment = parsedate_to_datetime(date) if date else datetime.now(UTC)
    except ValueError:
        moment = datetime.now(UTC)
    return moment.astimezone(UTC).isoformat()
