"""A server that speaks Pusher's protocol, on loopback."""

import itertools
import json
from contextlib import suppress

from websockets.exceptions import ConnectionClosed

from .websocket_servers import Server


def frame(event, data=None, channel=None):
    """Return a frame as Pusher sends it: the data are a text with JSON in it."""
    told = {} if channel is None else {"channel": channel}
    return json.dumps({"event": event, "data": json.dumps(data), **told})


class PusherServer(Server):
    """Greets, confirms subscriptions, and does what the scripts say for each of them.

    A script is a coroutine function of the connection and the list of what was received.

    Attributes:
        activity_timeout: what it tells the client.
        answers_pings: whether it does.
    """

    def __init__(self, *scripts):
        super().__init__(*scripts or (nothing,))
        self.activity_timeout = 120
        self.answers_pings = True
        self._ids = itertools.count(1)

    async def __call__(self, connection):
        script = self.scripts[min(len(self.connections), len(self.scripts) - 1)]
        received = []
        self.connections.append(connection)
        self.received.append(received)
        greeting = {
            "socket_id": f"7.{next(self._ids)}",
            "activity_timeout": self.activity_timeout,
        }
        with suppress(ConnectionClosed):
            await connection.send(frame("pusher:connection_established", greeting))
            async for raw in connection:
                message = json.loads(raw)
                received.append(message)
                await self._answer(connection, message, script, received)

    async def _answer(self, connection, message, script, received):
        match message["event"]:
            case "pusher:ping" if self.answers_pings:
                await connection.send(frame("pusher:pong", {}))
            case "pusher:subscribe":
                channel = message["data"]["channel"]
                succeeded = "pusher_internal:subscription_succeeded"
                await connection.send(frame(succeeded, {}, channel))
                await script(connection, received)

    @property
    def options(self):
        """Those that lead a source here."""
        host, _, port = self.url.removeprefix("ws://").partition("/")[0].partition(":")
        return {"host": host, "port": int(port), "secure": False}


async def nothing(connection, received):
    """A script: stay."""


def tells(*frames):
    """A script: send these."""

    async def script(connection, received):
        for text in frames:
            await connection.send(text)

    return script
