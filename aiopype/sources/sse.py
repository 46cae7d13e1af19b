"""A source that follows a stream of server-sent events."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import aiohttp
import msgspec
from yarl import URL

from aiopype.emitter import MessageHandler
from aiopype.errors import OutputTooLarge, StateCorrupt
from aiopype.event import Key, key_bytes
from aiopype.inputs import RawInput
from aiopype.source import Source
from aiopype.sources.attempts import Attempts
from aiopype.sources.event_stream import EventStream, StreamError, StreamEvent
from aiopype.sources.http import origin_url
from aiopype.sources.options import Count, Seconds, SourceOptions, read_options
from aiopype.sources.rest_messages import Request
from aiopype.sources.sse_connection import (
    HEADERS,
    LONGEST_RETRY_SECONDS,
    StreamEnded,
    StreamRefused,
    ask,
    probing_session,
    read,
)

__all__ = ["SSEOptions", "SSESource"]


class SSEOptions(SourceOptions, frozen=True, kw_only=True):
    """What can be said of an `SSESource`, beside what can be said of every source.

    Attributes:
        headers: to send with each request.
        params: to add to the URL's query.
        content: what the data of an event is: `json`, parsed, or `text`.
        events: the names of the events to take, `message` for those without one; None: all.
        largest_bytes: the data of an event that is larger is not taken.
        connect_seconds: from the request to the answer's headers.
        healthy_seconds: a connection that lasts longer is no error, though nothing came on it.
    """

    headers: dict[str, str] = msgspec.field(default_factory=dict)
    params: dict[str, str] = msgspec.field(default_factory=dict)
    content: Literal["json", "text"] = "json"
    events: tuple[str, ...] | None = None
    largest_bytes: Count = 1_000_000
    connect_seconds: Seconds = 30.0
    healthy_seconds: Seconds = 10.0


class SSESource(Source):
    """Follows a stream of server-sent events (`text/event-stream`).

    Emits `message(data, event, id)` for each event: its data, parsed where `content` is `json`; its
    name, `message` where the stream gives none; and its id, which is that of an earlier one where
    it has none of its own.

    The position is the id of the last event. It becomes durable with the event, and is sent as
    `Last-Event-ID` with each request, from whichever worker: a server that knows its ids sends
    what was missed, and nothing is lost or comes twice. From a stream without ids what was sent
    while nobody was connected is lost.

    When the stream ends or breaks the source asks again, after the time that the stream's `retry`
    said, or after `first_delay_seconds`. A status other than 200, a content type other than that
    of event streams, no connection and no answer in time are errors too; `Retry-After` is waited
    for. With each error in a row the delay doubles; `exception_threshold` of them open the
    circuit. The count begins anew with an event or a comment, or when a connection has lasted
    `healthy_seconds`. The status 204 says that the stream is over: the source has ended.

    An event that is no JSON where it should be, that is too large, or for which `key_of` raises
    becomes a dead letter, and the source goes on. Where `content` is `json` an event with empty
    data is taken for a sign of life, as a comment is.

    Arguments:
        name, handler: as for every component.
        url: what to GET.
        options: an `SSEOptions`, or a mapping of some of its fields.

    Raises:
        ConfigurationError: an option is unknown, or its value makes no sense.
    """

    events = ("message",)

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        url: str,
        options: Mapping[str, Any] | SSEOptions | None = None,
    ) -> None:
        super().__init__(name, handler)
        self.url = url
        self.options = read_options(name, SSEOptions, options)
        self.expect_every = self.options.expect_every
        self.rate_limit = self.options.rate_limit
        self._attempts = Attempts(self.options, self.vitals)
        self._shown = f"GET {origin_url(URL(url))}"
        self._was_refused = False
        self._retry_seconds: float | None = None

    # --- what a user may override

    def open_session(self) -> aiohttp.ClientSession:
        """Return the session for one run of `start`, which closes it.

        Called once a start; for client certificates, proxies, another connector. That of aiopype
        finds out in a minute that the host is gone.
        """
        return probing_session()

    async def authorize(self, request: Request) -> None:
        """Add to the next request what the server wants to see, such as a token; nothing.

        Called before each request, redirects aside. Its `was_refused` says that the last one was
        answered with 401. What it raises counts as an error of the upstream: it is called again
        after the delay.
        """

    def key_of(self, data: Any, event: str, last_id: str) -> Key | None:
        """Return the key of an event; None sends all to the partition of the source.

        Called for each event, with what is emitted. An event for which it raises, or for which
        what it returns is no key, becomes a dead letter.
        """
        return None

    # --- the connection

    async def start(self) -> None:
        """Follow the stream until the server says that it is over.

        Raises:
            CircuitOpen: too many errors in a row.
            StateCorrupt: the position is no id of an event.
        """
        self._last_id()
        async with self.open_session() as session:
            while True:
                await self.pace()
                try:
                    async with await self._ask(session) as response:
                        self._attempts.connected()
                        if response.status == 204:
                            self.logger.info("%s: status 204, the stream is over", self._shown)
                            return
                        await self._follow(response.content)
                except StreamError as error:
                    await self._wait(error)

    async def _ask(self, session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        headers = HEADERS | self.options.headers
        if last_id := self._last_id():
            headers["Last-Event-ID"] = last_id
        request = Request(
            method="GET",
            url=self.url,
            params=dict(self.options.params),
            headers=headers,
            was_refused=self._was_refused,
        )
        try:
            await self.authorize(request)
        except Exception as error:
            raise StreamError(f"authorize: {type(error).__name__}: {error}") from error
        return await ask(session, request, self.options.connect_seconds, self.clock.time())

    async def _follow(self, content: aiohttp.StreamReader) -> None:
        stream = EventStream(self.options.largest_bytes, self._last_id())
        began = self.clock.monotonic()
        try:
            while True:
                lines, known = stream.lines, stream.last_id
                for event in stream.feed(await read(content)):
                    await self._receive(event)
                    known = event.id
                if stream.last_id != known:  # of an event without data
                    self.checkpoint(stream.last_id)
                if stream.lines != lines:
                    self.heard()
                    self._attempts.recovered()
        finally:
            if self.clock.monotonic() - began >= self.options.healthy_seconds:
                self._attempts.recovered()
            if stream.retry_seconds is not None:
                self._retry_seconds = min(stream.retry_seconds, LONGEST_RETRY_SECONDS)

    async def _wait(self, error: StreamError) -> None:
        refused = error if isinstance(error, StreamRefused) else None
        self._was_refused = refused is not None and refused.status == 401
        after = 0.0 if refused is None else refused.after_seconds
        retry = self._retry_seconds
        is_first = self._attempts.failures == 0
        is_end = is_first and isinstance(error, StreamEnded)
        delay = self._attempts.failed(error, max(after, retry or 0.0), is_expected=is_end)
        if is_first and retry is not None:
            delay = max(after, retry)
        level = logging.INFO if is_end else logging.WARNING
        self.logger.log(level, "%s: %s; again in %.1f s", self._shown, error, delay)
        await self.clock.sleep(delay)

    def _last_id(self) -> str:
        position = self.position
        if position is not None and not isinstance(position, str):
            raise StateCorrupt(
                f"the position of {self.name!r} is {position!r:.200}, which is no id of an event; "
                "was another source of this name here before?"
            )
        return position or ""

    # --- the events

    async def _receive(self, event: StreamEvent) -> None:
        await self.pace()
        meta: dict[str, Any] = {"event": event.event, "id": event.id}
        if event.size > len(event.data):
            meta["size"] = event.size
        await self.receive(RawInput("event", event.data, self.clock.time(), meta))

    async def take(self, raw: RawInput) -> None:
        """Make a `message` of an event of the stream, and its id the position."""
        event, last_id = raw.meta.get("event", "message"), raw.meta.get("id", "")
        if last_id or self.position:
            self.checkpoint(last_id)
        options = self.options
        if options.events is not None and event not in options.events:
            return
        try:
            if "size" in raw.meta:
                raise StreamError(
                    f"an event has {raw.meta['size']:,} bytes, and the largest that is taken "
                    f"{options.largest_bytes:,}; `largest_bytes` says so"
                )
            if options.content == "text":
                data = raw.data.decode("utf-8", "replace")
            elif raw.data:
                data = msgspec.json.decode(raw.data)
            else:
                return
            key = self.key_of(data, event, last_id)
            if key is not None:
                key_bytes(key)
        except Exception as error:  # noqa: BLE001 - `key_of` is the user's
            await self.reject(raw, error)
            return
        try:
            await self.emit_async("message", data, event, last_id, key=key)
        except OutputTooLarge as error:
            await self.reject(raw, error)
