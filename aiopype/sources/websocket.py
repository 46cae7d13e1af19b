"""A source that follows a websocket."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from aiopype.emitter import MessageHandler
from aiopype.errors import ConfigurationError
from aiopype.event import Key
from aiopype.inputs import RawInput
from aiopype.sources.connections import Connection, ConnectionLost, Message, encode_message
from aiopype.sources.feed_options import FeedOptions, merge
from aiopype.sources.feeds import Feed
from aiopype.sources.options import Seconds, read_options

__all__ = ["WebsocketOptions", "WebsocketSource"]


class WebsocketOptions(FeedOptions, frozen=True, kw_only=True):
    """The options of a `WebsocketSource`, beside those of every feed.

    A message to send is a text, bytes, or a dict or list, which is sent as JSON.

    Attributes:
        subscribe: messages that are sent at each connection, in order.
        ping_interval: seconds without any frame after which the server is pinged; None: never.
        heartbeat: a message that the server wants to have again and again; a ping of the protocol
            is none to it.
        heartbeat_interval: seconds between two of them.
        heartbeat_answer: what the server answers to it: a text or bytes, or a dict whose members
            are among those of the answer. It is no message. When it does not come in
            `heartbeat_timeout` the connection is dead. None: there is no answer.
    """

    subscribe: tuple[Any, ...] = ()
    ping_interval: Seconds | None = 20.0
    heartbeat: Any = None
    heartbeat_interval: Seconds = 20.0
    heartbeat_answer: Any = None

    def __post_init__(self) -> None:
        """Refuse what cannot be sent; msgspec makes a ValidationError of it."""
        for message in (*self.subscribe, self.heartbeat, self.heartbeat_answer):
            if not isinstance(message, str | bytes | dict | list | None):
                raise TypeError("give a str, bytes, dict or list for each message")
            encode_message("" if message is None else message)


class WebsocketSource(Feed):
    """Follows a websocket and emits what it sends.

    Emits

    - `connected()`: a connection is there, and the subscriptions have been sent;
    - `message(data)`: a frame, as `parse` read it: JSON, if it is not overridden;
    - `disconnected(reason)`: the connection is lost; it connects again;
    - `gap(gap)`: behind each `connected` but the first of all, the time in which it saw nothing: a
      `Gap`, with its `from` and `to`. With a `backfill` it comes when that has ended, and says
      whether the gap is filled. So it does when the source was moved to another worker.

    A frame that `parse` cannot read becomes a dead letter. A connection that is dead without a word
    is found by pings: after `ping_interval` without a frame and `heartbeat_timeout` without one
    more. While the pipeline is slow nothing is read, and silence is no sign.

        class Trades(WebsocketSource):
            url = "wss://feed.example/v1"

            def key_of(self, trade):
                return trade["symbol"]

        Trades(name, handler, options={"subscribe": [{"op": "subscribe", "channel": "trades"}]})

    Arguments:
        name, handler: as for every component.
        url: `ws://` or `wss://`; the attribute `url` of the class if not given.
        options: those of `WebsocketOptions`, as a mapping or as such.
        named: options by name, as the first aiopype had them.

    Raises:
        ConfigurationError: an option is unknown or makes no sense, or there is no URL.
    """

    url: str | None = None
    options: WebsocketOptions

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        url: str | None = None,
        options: Mapping[str, Any] | WebsocketOptions | None = None,
        **named: Any,
    ) -> None:
        given = merge(options, named)
        super().__init__(name, handler, read_options(name, WebsocketOptions, given))
        if url is not None:
            self.url = url
        if type(self).address is WebsocketSource.address:
            _check_url(name, self.url)
        if self.options.heartbeat is None and self.options.heartbeat_answer is not None:
            raise ConfigurationError(
                f"source {name!r}: heartbeat_answer without a heartbeat; give both, or neither"
            )
        self._answer = asyncio.Event()
        self._has_control = self.options.heartbeat_answer is not None

    # --- hooks

    async def address(self) -> str:
        """Return the URL to connect to: `url`. Called before each attempt."""
        assert self.url is not None
        return self.url

    async def subscribe_messages(self) -> Sequence[Message]:
        """Return what to send at each connection, after `on_connect`: the option `subscribe`.

        Errors are taken as those of `on_connect`. `self.place` says where the feed was.
        """
        return self.options.subscribe

    async def publish(self, message: Any, key: Key | None) -> None:
        """Emit `message(data)`, with the key of `key_of`.

        May be overridden to emit other events, or several: what it emits of one message is durable
        as a whole, together with the position, or not at all. What it raises fails the source.
        """
        await self.emit_async("message", message, key=key)

    _publish_one = publish

    # --- the connection

    async def _enter(self, connection: Connection) -> bytes:
        await self.on_connect()
        for message in await self.subscribe_messages():
            await connection.send(message)
        return b""

    def _watchers(self, connection: Connection) -> Sequence[Coroutine[Any, Any, None]]:
        interval = self.options.ping_interval
        watchers = []
        if interval is not None:
            watchers.append(connection.ping_when_quiet(interval, connection.ping))
        if self.options.heartbeat is not None:
            watchers.append(self._beat(connection))
        return watchers

    async def _beat(self, connection: Connection) -> None:
        """Send the heartbeat, and give the connection up when its answer does not come."""
        options = self.options
        try:
            while True:
                await self.clock.sleep(options.heartbeat_interval)
                self._answer.clear()
                await connection.send(options.heartbeat)
                if options.heartbeat_answer is not None:
                    await connection.answered(self._answer, "the heartbeat")
        except ConnectionLost:
            return  # the one that reads finds the reason

    async def _is_control(self, raw: RawInput, connection: Connection) -> bool:
        """Say whether a frame is the answer to a heartbeat."""
        if not self._is_answer(raw.data):
            return False
        self._answer.set()
        return True

    def _is_answer(self, frame: bytes) -> bool:
        expected = self.options.heartbeat_answer
        if not isinstance(expected, dict):
            return frame == encode_message(expected)
        try:
            found = msgspec.json.decode(frame)
        except msgspec.MsgspecError:
            return False
        return isinstance(found, dict) and expected.items() <= found.items()


def _check_url(source: str, url: str | None) -> None:
    if urlsplit(url or "").scheme not in ("ws", "wss", "http", "https"):
        raise ConfigurationError(
            f"source {source!r}: url={url!r} is none of a websocket; give one that begins with "
            "ws:// or wss://"
        )
