"""A source that listens to a Socket.IO server."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import aiohttp
import msgspec
from yarl import URL

from aiopype.emitter import MessageHandler
from aiopype.errors import CodecError, ConfigurationError
from aiopype.event import Key
from aiopype.inputs import RawInput
from aiopype.sources.feed_options import FeedOptions
from aiopype.sources.feeds import Feed
from aiopype.sources.http import origin_url, read_body
from aiopype.sources.options import read_options

if TYPE_CHECKING:
    from aiopype.sources.socketio_session import Session

__all__ = ["SocketIOEvent", "SocketIOOptions", "SocketIOSource"]

#: Events that are acknowledged together, when they are durable.
OWED = 100

_decode = msgspec.json.Decoder(list[Any]).decode

_Namespace = Annotated[str, msgspec.Meta(pattern="^/[^?,]*$")]

_Transports = Annotated[tuple[Literal["websocket", "polling"], ...], msgspec.Meta(min_length=1)]


class SocketIOEvent(msgspec.Struct, frozen=True):
    """An event that a Socket.IO server sent.

    Attributes:
        name: as the server calls it.
        args: what it has; bytes are in base64.
        namespace: in which it came.
    """

    name: str
    args: list[Any] = []
    namespace: str = "/"


class SocketIOOptions(FeedOptions, frozen=True, kw_only=True):
    """The options of a `SocketIOSource`, beside those of every feed.

    Of those, `heartbeat_timeout` is how late a ping of the server may come: then the connection is
    dead.

    Attributes:
        namespaces: those to join.
        auth: what to send to each of them when it is joined, in JSON's types.
        path: where on the server Socket.IO is.
        transports: `websocket`, `polling` or both, the first to connect with. Polling first needs
            a server that finds the same client again, and stops at answers of more than 16 packets.
        events: the names of the events to take; None: all.
        subscribe: events to send at each connection, in order, each a list of its name and
            arguments; to the first namespace.
        acknowledge: whether to answer where the server wants it, when the event is durable.
    """

    namespaces: Annotated[tuple[_Namespace, ...], msgspec.Meta(min_length=1)] = ("/",)
    auth: Any = None
    path: str = "socket.io"
    transports: _Transports = ("websocket",)
    events: tuple[str, ...] | None = None
    subscribe: tuple[Annotated[list[Any], msgspec.Meta(min_length=1)], ...] = ()
    acknowledge: bool = True


class SocketIOSource(Feed):
    """Listens to a Socket.IO server (protocol 5, as of Socket.IO 3 and 4).

    Emits

    - `connected()`: a connection is there, the namespaces are joined, the subscriptions sent;
    - `message(*args)`: the server has sent (`send`), or emitted `message`;
    - `event(name, *args)`: it has emitted any other event;
    - `disconnected(reason)`: the connection is lost; it connects again;
    - `gap(gap)`: as of a `WebsocketSource`: the time in which it saw nothing. Socket.IO itself
      sends nothing again; a `backfill` may fetch it.

    The hooks `position_of`, `key_of`, `backfill` and `publish` get a `SocketIOEvent`.

        class Trades(SocketIOSource):
            def key_of(self, event):
                return event.args[0]["symbol"]

            async def publish(self, event, key):
                await self.emit_async("trade", event.args[0], key=key)

        Trades(name, handler, "https://feed.example", {"events": ["trade"]})

    What is no event becomes a dead letter. Order is kept, and an event is read when the one before
    has been emitted. A connection is dead when the server's ping does not come; they say nothing to
    `expect_every`. A pipeline that stands for longer than the server's ping interval and 5 s loses
    its connection: pings are behind the events that nobody reads.

    Needs the extra `socketio`.

    Arguments:
        name, handler: as for every component.
        source_url: `http://`, `https://`, `ws://` or `wss://`.
        options: those of `SocketIOOptions`, as a mapping or as such.

    Raises:
        ConfigurationError: the extra is not installed, or an option is unknown or makes no sense.
    """

    events: ClassVar[tuple[str, ...]] = (*Feed.events, "event")
    options: SocketIOOptions

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        source_url: str,
        options: Mapping[str, Any] | SocketIOOptions | None = None,
    ) -> None:
        super().__init__(name, handler, read_options(name, SocketIOOptions, options))
        if find_spec("socketio") is None:
            raise ConfigurationError(
                f"source {name!r} needs python-socketio: pip install 'aiopype[socketio]'"
            )
        self.source_url = source_url
        self._owed: list[RawInput] = []

    @property
    def socket(self) -> Session | None:
        """The connection, while there is one: it can `send` events to the server."""
        return cast("Session | None", self.websocket)

    # --- hooks

    def open_session(self) -> aiohttp.ClientSession:
        """Return the session to connect with; called at each start, which closes it.

        For proxies, client certificates and the like. With another one `largest_bytes` does not
        hold for answers to polls, which the library reads whole.
        """
        return aiohttp.ClientSession(response_class=_bounded(self.options.largest_bytes))

    async def address(self) -> str:
        """Return the URL to connect to: `source_url`. Called before each attempt."""
        return self.source_url

    async def auth(self) -> Any:
        """Return what to send to each namespace when it is joined: the option `auth`.

        Called before each attempt; errors are taken as those of `headers`.
        """
        return self.options.auth

    async def publish(self, message: SocketIOEvent, key: Key | None) -> None:
        """Emit `message(*args)` or `event(name, *args)`, with the key of `key_of`.

        May be overridden to emit other events, or several: what it emits of one event is durable
        as a whole, together with the position, or not at all. What it raises fails the source.
        """
        if message.name == "message":
            await self.emit_async("message", *message.args, key=key)
        else:
            await self.emit_async("event", message.name, *message.args, key=key)

    _publish_one = publish

    # --- events

    def _message_of(self, raw: RawInput) -> SocketIOEvent | None:
        if raw.meta.get("parsed"):
            return msgspec.json.decode(raw.data, type=SocketIOEvent)
        if "error" in raw.meta:
            raise CodecError(f"no packet of Socket.IO: {raw.meta['error']}")
        name, *args = _decode(raw.data)
        wanted = self.options.events
        if wanted is not None and name not in wanted:
            return None
        return SocketIOEvent(name, args, raw.meta.get("namespace", "/"))

    # --- the connection: a session in place of a websocket

    async def _connect(self, session: aiohttp.ClientSession) -> Any:
        self._owed = []
        return await self._in_time(self._open(session))

    async def _open(self, http: aiohttp.ClientSession) -> Session:
        from aiopype.sources.socketio_session import Session  # noqa: PLC0415 - of an extra

        url = await self.address()
        self._shown = origin_url(URL(url))
        headers = {**self.options.headers, **await self.headers()}
        connection = Session(self.options, self.clock, http)
        try:
            await connection.open(url, headers, await self.auth())
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _enter(self, connection: Any) -> bytes:
        await connection.joined()
        await self.on_connect()
        for event, *args in self.options.subscribe:
            await connection.send(event, *args)
        return b""

    def _watchers(self, connection: Any) -> Sequence[Coroutine[Any, Any, None]]:
        return ()  # the library looks after the server's pings

    async def _take_live(self, raw: RawInput) -> None:
        await super()._take_live(raw)
        owed, session = self._owed, self.socket
        if "ack" in raw.meta and self.options.acknowledge:
            owed.append(raw)
        if owed and session is not None and (session.is_idle or len(owed) >= OWED):
            await self.flush()
            for event in owed:
                await session.acknowledge(event)
            owed.clear()


def _bounded(largest: int) -> type[aiohttp.ClientResponse]:
    class Bounded(aiohttp.ClientResponse):
        async def read(self) -> bytes:
            if self._body is None:
                self._body = await read_body(self, largest)
            return self._body

    return Bounded
