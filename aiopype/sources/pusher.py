"""A source that follows channels of Pusher, or of a server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from aiopype.emitter import MessageHandler
from aiopype.errors import CircuitOpen, ConfigurationError, SourceError
from aiopype.event import Key
from aiopype.inputs import RawInput
from aiopype.sources.connections import Connection, ConnectionLost
from aiopype.sources.feed_options import FeedOptions
from aiopype.sources.feeds import Feed
from aiopype.sources.options import Count, Seconds, read_options
from aiopype.sources.pusher_protocol import (
    AGAIN,
    BUSY,
    OTHER,
    PING,
    PONG,
    PROTOCOL,
    REFUSED,
    is_closed,
    is_own,
    parsed,
    public,
    read_envelope,
)

__all__ = ["PusherMessage", "PusherOptions", "PusherSource"]

#: Where apps are that were made before there were clusters.
FIRST_HOST = "ws.pusherapp.com"

#: The least delay after a code that asks for one.
BUSY_SECONDS = 1.0


class PusherOptions(FeedOptions, frozen=True, kw_only=True):
    """The options of a `PusherSource`, beside those of every feed.

    Attributes:
        channels: those to subscribe to at each connection.
        events: names of the events to take; None: all but Pusher's own. Of these, by the names that
            Pusher's clients give them, `pusher:subscription_succeeded`, `pusher:member_added`,
            `pusher:member_removed`, `pusher:subscription_count` and `pusher:cache_miss` can be
            asked for.
        cluster: of the app, such as `eu`; None: the first one.
        host: a server that is not Pusher's; in place of `cluster`.
        port: None: that of the scheme.
        secure: whether the connection is encrypted.
        ping_interval: seconds without any frame after which the server is asked for one; where it
            gives a shorter `activity_timeout`, that.
        heartbeat_timeout: as of every feed; Pusher recommends 30.
    """

    channels: tuple[str, ...] = ()
    events: frozenset[str] | None = None
    cluster: str | None = None
    host: str | None = None
    port: Count | None = None
    secure: bool = True
    ping_interval: Seconds = 120.0
    heartbeat_timeout: Seconds = 30.0


class PusherMessage(NamedTuple):
    """A message of a channel.

    Attributes:
        channel: its name.
        event: the name of the event.
        data: parsed, where it is JSON; else the text.
    """

    channel: str
    event: str
    data: Any


class PusherSource(Feed):
    """Follows channels of Pusher and emits what is sent on them.

    Emits `message(channel, event, data)`, and `connected()`, `disconnected(reason)` and
    `gap(gap)` as a `WebsocketSource` does; it has the same hooks, and `backfill` too. Its messages
    are `PusherMessage`.

    The server's codes are heeded: after one from 4000 to 4099 (an unknown key, too many
    connections) it is not tried again before the source leaves quarantine; after one from 4100 to
    4199 after a delay; after one from 4200 to 4299 at once. A channel that is refused is an error
    of the upstream. Messages of encrypted channels are emitted as they come.

    Arguments:
        name, handler: as for every component.
        key: of the app.
        options: those of `PusherOptions`, as a mapping or as such.

    Raises:
        ConfigurationError: an option is unknown or makes no sense, or a channel needs
            `authenticate` and there is none.
    """

    options: PusherOptions

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        key: str,
        options: Mapping[str, Any] | PusherOptions | None = None,
    ) -> None:
        super().__init__(name, handler, read_options(name, PusherOptions, options))
        self.key = key
        self.socket_id = ""
        self._has_control = True
        self._quiet_seconds = self.options.ping_interval
        if not key:
            raise ConfigurationError(f"source {name!r} has no key; give that of the Pusher app")
        closed = [channel for channel in self.options.channels if is_closed(channel)]
        if closed and type(self).authenticate is PusherSource.authenticate:
            raise ConfigurationError(
                f"source {name!r}: channel {closed[0]!r} is not public; override "
                "`async def authenticate(self, channel, socket_id)`"
            )

    # --- hooks

    async def address(self) -> str:
        """Return the URL to connect to. Called before each attempt."""
        options = self.options
        host = options.host
        if host is None:
            host = FIRST_HOST if options.cluster is None else f"ws-{options.cluster}.pusher.com"
        port = "" if options.port is None else f":{options.port}"
        scheme = "wss" if options.secure else "ws"
        query = f"protocol={PROTOCOL}&client=aiopype&version=1.0"
        return f"{scheme}://{host}{port}/app/{quote(self.key, safe='')}?{query}"

    async def authenticate(self, channel: str, socket_id: str) -> Mapping[str, str]:
        """Return the `auth` of a private channel, and the `channel_data` of a presence channel.

        Called at each connection for each channel that is not public; usually it asks a server of
        yours that knows the app's secret. Errors are taken as those of `on_connect`.
        """
        raise SourceError(
            f"channel {channel!r} of source {self.name!r} is not public; override `authenticate`"
        )

    async def subscribe(self, channel: str) -> None:
        """Subscribe to a channel, beside those of the options; in `on_connect`, at each connection.

        Raises:
            ConnectionLost: the connection has ended.
        """
        assert self.websocket is not None
        data = {"channel": channel}
        if is_closed(channel):
            data |= await self.authenticate(channel, self.socket_id)
        await self.websocket.send({"event": "pusher:subscribe", "data": data})

    def parse(self, frame: str | bytes) -> PusherMessage | None:
        """Return the message of a frame; None if its event is not to be taken."""
        envelope = read_envelope(frame)
        name = public(envelope.event)
        if self._is_wanted(name):
            return PusherMessage(envelope.channel, name, self._data(envelope.data))
        return None

    async def publish(self, message: PusherMessage, key: Key | None) -> None:
        """Emit `message(channel, event, data)`, with the key of `key_of`.

        May be overridden as that of `WebsocketSource`.
        """
        await self.emit_async("message", *message, key=key)

    _publish_one = publish

    # --- the connection

    async def _enter(self, connection: Connection) -> bytes:
        greeting = await self._greeting(connection)
        await self._greeted(greeting)
        await self.on_connect()
        for channel in self.options.channels:
            await self.subscribe(channel)
        return greeting

    async def _greeting(self, connection: Connection) -> bytes:
        """Return what the server says of the connection, as JSON."""
        while True:
            raw = await connection.read()
            try:
                envelope = read_envelope(raw.data)
            except msgspec.MsgspecError as error:
                raise ConnectionLost(f"the server does not speak Pusher: {error}") from error
            if envelope.event == "pusher:connection_established":
                break
            await self._is_control(raw, connection)
        try:
            data = parsed(envelope.data)
            self.socket_id = str(data["socket_id"])
            quiet = float(data.get("activity_timeout", self.options.ping_interval))
        except (TypeError, KeyError, ValueError) as error:
            raise ConnectionLost(f"the server's greeting is none: {envelope.data!r}") from error
        self._quiet_seconds = min(self.options.ping_interval, max(quiet, 1.0))
        return msgspec.json.encode(data)

    async def _greeted(self, greeting: bytes) -> None:
        """Take what the server says of a connection; for subclasses."""

    def _watchers(self, connection: Connection) -> Sequence[Coroutine[Any, Any, None]]:
        async def ping() -> None:
            await connection.send(PING)

        return [connection.ping_when_quiet(self._quiet_seconds, ping)]

    async def _is_control(self, raw: RawInput, connection: Connection) -> bool:
        if b'"pusher' not in raw.data:
            return False
        try:
            envelope = read_envelope(raw.data)
        except msgspec.MsgspecError:
            return False  # a dead letter
        match envelope.event:
            case "pusher:ping":
                await connection.send(PONG)
            case "pusher:error":
                self._take_error(envelope.data)
            case "pusher:subscription_error":
                raise ConnectionLost(
                    f"channel {envelope.channel!r} is refused: {envelope.data!r:.300}"
                )
            case name if not is_own(name) or self._is_wanted(public(name)):
                return False
        return True

    def _take_error(self, data: Any) -> None:
        details = parsed(data)
        code = details.get("code") if isinstance(details, dict) else None
        if isinstance(code, int) and REFUSED <= code < OTHER:
            raise ConnectionLost(f"error {code}: {details.get('message')}", code)
        self.logger.warning("the server says: %.300r", details)

    def _delay_after(self, lost: ConnectionLost) -> float:
        code = lost.code or 0
        if REFUSED <= code < BUSY:
            self.vitals.failed(lost)
            raise CircuitOpen(
                f"the server refuses the connection as it is: {lost}; see to the key, the cluster "
                "and the limits of the app"
            ) from lost
        delay = super()._delay_after(lost)
        if BUSY <= code < AGAIN:
            return max(delay, BUSY_SECONDS)
        if AGAIN <= code < OTHER and self._attempts.failures <= 1:
            return 0.0  # again and again it would not be at once
        return delay

    # --- messages

    def _is_wanted(self, event: str) -> bool:
        wanted = self.options.events
        return not is_own(event) if wanted is None else event in wanted

    def _data(self, data: Any) -> Any:
        return parsed(data)

    def _restored(self, data: Any) -> PusherMessage:
        return PusherMessage(*data)
