"""Socket.IO servers on loopback: a real one, and one that does whatever a test wants."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager, suppress

import socketio
from aiohttp import WSMsgType, web


class RealServer:
    """python-socketio's server; it keeps what clients do."""

    def __init__(self, **options):
        # Without loggers of ours the library makes some that write to the terminal.
        quiet = logging.getLogger("tests.socketio")
        self.io = socketio.AsyncServer(
            async_mode="aiohttp",
            logger=quiet,
            engineio_logger=quiet,
            cors_allowed_origins=[],
            **options,
        )
        self.url = ""
        self.connected = []
        self.got = []
        self.acks = []
        self.refuse = None
        self.on_connect = None
        for namespace in ("/", "/b"):
            self.io.on("connect", self._connect(namespace), namespace=namespace)
            self.io.on("*", self._event(namespace), namespace=namespace)

    def _connect(self, namespace):
        async def connect(sid, environ, auth=None):
            if self.refuse is not None:
                raise socketio.exceptions.ConnectionRefusedError(self.refuse)
            self.connected.append((namespace, sid, environ, auth))
            if self.on_connect is not None:
                await self.on_connect(namespace, sid)

        return connect

    def _event(self, namespace):
        async def event(name, sid, *args):
            self.got.append((namespace, name, *args))

        return event

    def drop(self):
        """Break the last connection off, without a word."""
        self.connected[-1][2]["aiohttp.request"].transport.abort()

    @asynccontextmanager
    async def running(self):
        app = web.Application()
        self.io.attach(app)
        async with serving(app) as self.url:
            yield self
        await self.io.shutdown()


class RawServer:
    """Speaks only what a test tells it to, over a websocket.

    Arguments:
        script: called with the server and each websocket, after the handshake of Engine.IO.
    """

    def __init__(self, script, ping_seconds=25.0, timeout_seconds=20.0):
        self.script = script
        self.ping_seconds = ping_seconds
        self.timeout_seconds = timeout_seconds
        self.url = ""
        self.connections = 0
        self.sent = 0
        self.got = []
        self.closing = asyncio.Event()

    async def answer(self, request):
        self.connections += 1
        websocket = web.WebSocketResponse(max_msg_size=0)
        await websocket.prepare(request)
        opening = {
            "sid": "s",
            "upgrades": [],
            "pingInterval": int(self.ping_seconds * 1000),
            "pingTimeout": int(self.timeout_seconds * 1000),
        }
        await websocket.send_str("0" + json.dumps(opening))
        with suppress(ConnectionError):
            await self.script(self, websocket)
        return websocket

    async def join(self, websocket):
        """Let the client join its namespace."""
        message = await websocket.receive()
        assert message.data.startswith("40")
        await websocket.send_str('40{"sid":"n"}')

    async def listen(self, websocket):
        """Keep what the client sends, until it goes."""
        async for message in websocket:
            if message.type is WSMsgType.TEXT:
                self.got.append(message.data)

    @asynccontextmanager
    async def running(self):
        app = web.Application()
        app.router.add_get("/socket.io/", self.answer)
        async with serving(app) as self.url:
            try:
                yield self
            finally:
                self.closing.set()


@asynccontextmanager
async def serving(app):
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
