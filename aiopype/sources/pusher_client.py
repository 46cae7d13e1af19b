"""The Pusher source of the first aiopype, under its old name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from aiopype.emitter import MessageHandler
from aiopype.event import Key
from aiopype.inputs import RawInput
from aiopype.sources.feed_options import merge
from aiopype.sources.pusher import PusherMessage, PusherOptions, PusherSource

__all__ = ["PusherClientSource"]


class PusherChannel:
    """A channel that `connect_handler` has asked for."""

    def __init__(self) -> None:
        self.callbacks: dict[str, list[Callable[[Any], Any]]] = {}

    def bind(self, event: str, callback: Callable[[Any], Any]) -> None:
        """Have `callback` called with the data of each such event."""
        self.callbacks.setdefault(event, []).append(callback)


class PusherChannels:
    """The channels that `connect_handler` asks for; `self.pusher` of the first aiopype."""

    def __init__(self) -> None:
        self.known: dict[str, PusherChannel] = {}

    def subscribe(self, channel: str) -> PusherChannel:
        """Have a channel subscribed to."""
        return self.known.setdefault(channel, PusherChannel())

    def callbacks(self, message: PusherMessage) -> list[Callable[[Any], Any]]:
        """Return what was bound to the event of a message."""
        channel = self.known.get(message.channel)
        return [] if channel is None else channel.callbacks.get(message.event, [])


class PusherClientSource(PusherSource):
    """A `PusherSource` that asks for its channels in `connect_handler`, as the first aiopype did.

        class Trades(PusherClientSource):
            events = ("trade",)

            def connect_handler(self, data):
                self.pusher.subscribe("live_trades").bind("trade", self.on_trade)

            def on_trade(self, data):
                self.emit("trade", json.loads(data))

    The data are the text that Pusher sent, as they were then. What the callbacks of one message
    emit is durable as a whole. Events that nothing is bound to are emitted as
    `message(channel, event, data)`.

    Arguments:
        name, handler: as for every component.
        pusher: the key of the app.
        options: those of `PusherOptions`.
        named: options by name.

    Raises:
        ConfigurationError: as `PusherSource`.
    """

    def __init__(
        self,
        name: str,
        handler: MessageHandler,
        pusher: str = "",
        options: Mapping[str, Any] | PusherOptions | None = None,
        **named: Any,
    ) -> None:
        super().__init__(name, handler, pusher, merge(options, named))
        self.pusher = PusherChannels()
        self._listens_to = b""

    def connect_handler(self, data: str) -> Any:
        """Ask for channels, with `self.pusher.subscribe`; called at each connection.

        Arguments:
            data: what the server said of the connection, as JSON; the `socket_id` is in it.
        """

    async def on_connect(self) -> None:
        """Subscribe to what `connect_handler` asked for."""
        for channel in self.pusher.known:
            await self.subscribe(channel)

    async def publish(self, message: PusherMessage, key: Key | None) -> None:
        """Call what is bound to the event, or emit it."""
        callbacks = self.pusher.callbacks(message)
        if not callbacks:
            await super().publish(message, key)
        for callback in callbacks:
            await _called(callback, message.data)

    async def take(self, raw: RawInput) -> None:
        """Emit the events of a raw input."""
        if raw.kind == "connected":
            await self._greeted(raw.data)
        await super().take(raw)

    async def _greeted(self, greeting: bytes) -> None:
        if greeting != self._listens_to:  # in a recording nobody has greeted before
            self._listens_to = greeting
            self.pusher.known.clear()
            await _called(self.connect_handler, greeting.decode())

    def _data(self, data: Any) -> Any:
        return data


async def _called(function: Callable[[Any], Any], argument: Any) -> None:
    result = function(argument)
    if inspect.isawaitable(result):
        await result
