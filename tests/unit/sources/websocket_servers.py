"""Websocket servers on loopback, and what a source that follows one is tested with.

The server is that of the `websockets` package, which is not the library of the source.
"""

import asyncio
import json
import time
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from aiopype.codec import decode

#: Everything that takes time takes little.
QUICK = {"first_delay_seconds": 0.001, "last_delay_seconds": 0.01, "heartbeat_timeout": 0.2}


class Server:
    """Does with each connection the next of its scripts, and with those after them the last one.

    A script is a coroutine function of the connection, and of the list of what was received on it.

    Attributes:
        url: where it is.
        connections: in the order they came.
        received: what each of them sent.
    """

    def __init__(self, *scripts):
        self.scripts = scripts
        self.connections = []
        self.received = []
        self.url = ""

    async def __call__(self, connection):
        script = self.scripts[min(len(self.connections), len(self.scripts) - 1)]
        self.connections.append(connection)
        self.received.append([])
        await script(connection, self.received[-1])

    @asynccontextmanager
    async def running(self, **options):
        options = {"ping_interval": None, "compression": None, "close_timeout": 0.2} | options
        async with serve(self, "127.0.0.1", 0, **options) as server:
            port = server.sockets[0].getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}/feed?token=secret"
            yield self


def sends(*messages, then=None):
    """A script: send these, dicts and lists as JSON; then do what `then` says, or stay."""

    async def script(connection, received):
        for message in messages:
            text = message if isinstance(message, str | bytes) else json.dumps(message)
            await connection.send(text)
        await (then or stays)(connection, received)

    return script


async def stays(connection, received):
    """Keep what comes until the end."""
    with suppress(ConnectionClosed):
        async for message in connection:
            received.append(message)


def closes_after(count):
    """A script: keep so many messages, then close."""

    async def script(connection, received):
        for _ in range(count):
            received.append(await connection.recv())
        await connection.close(1001, "going away")

    return script


closes = closes_after(0)


async def breaks(connection, received):
    """End as a process does that is killed: without a close frame."""
    connection.transport.abort()


async def freezes(connection, received):
    """Be there, and read and answer nothing more."""
    connection.transport.pause_reading()
    await connection.wait_closed()


class QuickClock:
    """The machine's clock; of waiting it only keeps the seconds."""

    def __init__(self):
        self.waited = []
        self.ahead = 0.0

    def time(self):
        return time.time()

    def monotonic(self):
        return time.monotonic() + self.ahead

    async def sleep(self, seconds):
        self.waited.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def running(source):
    """Run a source's `start` as long as the block lasts; its task is yielded."""
    task = asyncio.create_task(source.start(), name="start")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=5.0)
        assert task.done(), "it did not end"
        if not task.cancelled():
            with suppress(Exception):
                await task


def emitted(recorder, event):
    """Return the arguments of each event of this name."""
    return [
        decode(value)[0] for _, name, _, value in recorder.sent if name.rpartition(".")[2] == event
    ]


def messages(recorder):
    return [message for (message,) in emitted(recorder, "message")]


def names(recorder):
    """Return the names of all events, in order."""
    return [name.rpartition(".")[2] for _, name, _, _ in recorder.sent]


def without_time(entry):
    """Return what was emitted, without the source's name and the time of a dead letter."""
    kind, name, key, value = entry
    event = name.rpartition(".")[2]
    (*arguments,), _ = decode(value)
    if event == "error":
        arguments = [arguments[0]["value"]]
    return kind, event, key, arguments
