"""A connection to a Socket.IO server: python-engineio's client, and python-socketio's packets.

python-socketio's own client, which could stand between the two, does not tell that an event is to
be acknowledged, nor of a packet that it could not read, nor of a namespace that ends while others
are joined.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from socketio import packet as packets
from socketio.packet import Packet

from aiopype.clock import Clock
from aiopype.inputs import RawInput
from aiopype.sources.connections import ConnectionLost
from aiopype.sources.socketio_engine import Engine, Log, lost_by

if TYPE_CHECKING:
    from aiopype.sources.socketio import SocketIOOptions

__all__ = ["Session"]

#: Events that wait for the one that reads; with more the socket is not read any more.
WAITING = 100

#: Bytes of events that may come before all namespaces are joined: until then nobody reads.
EARLY_BYTES = 16 * 1024 * 1024

#: For the other side to answer a close frame, and for all of the closing.
CLOSE_SECONDS, END_SECONDS = 1.0, 1.5

#: What an object takes beside its bytes, about.
OBJECT_BYTES = 200


class Session:
    """One connection, from its handshake to its end. One task reads, any may send.

    Arguments:
        options: of the source.
        clock: the time of events.
        http: what to connect with.
    """

    def __init__(self, options: SocketIOOptions, clock: Clock, http: aiohttp.ClientSession) -> None:
        self._options = options
        self._clock = clock
        self._log = Log()
        self._http = http
        self._engine: Engine | None = None
        self._watch: asyncio.Task[None] | None = None
        self._to_join = set(options.namespaces)
        self._lost: ConnectionLost | None = None
        self._is_decided = asyncio.Event()  # joined, or lost
        self._waiting: deque[RawInput] = deque()
        self._early_bytes = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._partial: Packet | None = None
        self._partial_bytes = 0

    # --- what the source calls

    async def open(self, url: str, headers: Mapping[str, str], auth: Any) -> None:
        """Make the connection and ask for the namespaces. Close it, whatever comes of this.

        Raises:
            ConnectionLost: there is no Socket.IO server, or it refuses.
        """
        options = self._options
        self._engine = engine = Engine(
            logger=self._log,
            handle_sigint=False,
            http_session=self._http,
            request_timeout=options.connect_seconds,
            websocket_extra_options={
                "timeout": aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                "max_msg_size": options.largest_bytes + 1,  # aiohttp refuses one of that size
                "compress": 15 if options.compression else 0,
                "protocols": options.subprotocols,
            },
        )
        engine.on("message", self._take)
        transports = list(options.transports)
        try:
            await engine.connect(url, dict(headers), transports, options.path)
        except Exception as error:
            raise lost_by(error, self._clock.time()) from error
        engine.ping_timeout = options.heartbeat_timeout
        self._watch = asyncio.create_task(self._wait(engine), name="end of a connection")
        for namespace in options.namespaces:
            await self._send(Packet(packets.CONNECT, namespace=namespace, data=auth))

    async def joined(self) -> None:
        """Wait until all namespaces are joined.

        Raises:
            ConnectionLost: the server refused one, or the connection has ended.
        """
        await self._is_decided.wait()
        if self._lost is not None:
            raise self._lost

    async def read(self) -> RawInput:
        """Return the next `frame`: an event, or what is none.

        The data of an event are the JSON of its name and arguments; its `meta` has the `namespace`,
        and `ack` where the server wants it to be acknowledged. What is none has an `error` there.

        Raises:
            ConnectionLost: the connection has ended.
        """
        while not self._waiting:
            if self._lost is not None:
                raise self._lost
            self._filled.clear()
            await self._filled.wait()
        raw = self._waiting.popleft()
        self._room.set()
        return raw

    @property
    def is_idle(self) -> bool:
        """Whether nothing that came waits to be read."""
        return not self._waiting

    async def send(self, event: str, *args: Any, namespace: str | None = None) -> None:
        """Send an event to the server.

        Arguments:
            namespace: one that is joined; the first one of the options, if not given.

        Raises:
            ConnectionLost: the connection has ended.
            TypeError: an argument has no JSON form, and is not bytes.
        """
        namespace = namespace or self._options.namespaces[0]
        await self._send(Packet(packets.EVENT, namespace=namespace, data=[event, *args]))

    async def acknowledge(self, raw: RawInput) -> None:
        """Tell the server that it need not send an event again."""
        meta = raw.meta
        await self._send(Packet(packets.ACK, namespace=meta["namespace"], id=meta["ack"], data=[]))

    async def close(self) -> None:
        """Take leave and close the connection, in 2 seconds at most."""
        engine = self._engine
        if engine is None:
            return
        try:
            async with asyncio.timeout(END_SECONDS):
                await engine.disconnect(abort=True)
                if engine.ws is not None:  # of a connection that had ended it leaves this open
                    await engine.ws.close()
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass  # there is nobody any more to take leave of
        finally:
            tasks = [self._watch, engine.read_loop_task, engine.write_loop_task]
            running = [task for task in tasks if task is not None]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            engine.forget()

    # --- what the library calls with each message, and waits for

    async def _take(self, data: Any) -> None:
        if self._lost is not None:
            return
        try:
            packet = self._packet(data)
            if packet is None or (raw := self._raw(packet)) is None:
                return
        except ConnectionLost as lost:
            self._end(lost)
            return
        except Exception as error:  # noqa: BLE001 - whatever the library says of what came
            meta = {"error": f"{type(error).__name__}: {error}"}
            raw = RawInput("frame", _bytes(data), self._clock.time(), meta)
        self._waiting.append(raw)
        self._filled.set()
        if self._to_join:
            self._early_bytes += len(raw.data) + OBJECT_BYTES
            if self._early_bytes > EARLY_BYTES:
                self._end(ConnectionLost("too much came before all namespaces were joined"))
        elif len(self._waiting) >= WAITING:
            self._room.clear()
            await self._room.wait()

    def _packet(self, data: Any) -> Packet | None:
        """Return a packet that is complete; attachments follow some."""
        packet, self._partial = self._partial, None
        if packet is None:
            packet = Packet(encoded_packet=data)
            self._partial_bytes = 0
            is_complete = packet.attachment_count == 0
        elif isinstance(data, bytes):
            self._partial_bytes += len(data) + OBJECT_BYTES
            if self._partial_bytes > self._options.largest_bytes:
                raise ConnectionLost(
                    f"the attachments of an event have {self._partial_bytes:,} bytes; "
                    f"`largest_bytes` is {self._options.largest_bytes:,}"
                )
            is_complete = packet.add_attachment(data)
        else:
            raise ValueError("an attachment was to follow")
        if is_complete:
            return packet
        self._partial = packet
        return None

    def _raw(self, packet: Packet) -> RawInput | None:
        """Return the event that a packet is; see to one that is none."""
        namespace, kind, data = packet.namespace or "/", packet.packet_type, packet.data
        if kind in {packets.EVENT, packets.BINARY_EVENT}:
            if not (isinstance(data, list) and data and isinstance(data[0], str)):
                raise ValueError("an event is an array that begins with its name")
            meta = {"namespace": namespace}
            if packet.id is not None:
                meta["ack"] = packet.id
            return RawInput("frame", msgspec.json.encode(data), self._clock.time(), meta)
        if kind == packets.CONNECT:
            self._to_join.discard(namespace)
            if not self._to_join:
                self._is_decided.set()
        elif kind == packets.CONNECT_ERROR:
            text = data.get("message", data) if isinstance(data, dict) else data
            raise ConnectionLost(f"the server refused namespace {namespace!r}: {text}")
        elif kind == packets.DISCONNECT:
            raise ConnectionLost(f"the server ended namespace {namespace!r}")
        elif kind not in {packets.ACK, packets.BINARY_ACK}:  # nothing that is sent asks for these
            raise ValueError(f"there is no packet of type {kind}")
        return None

    # --- the connection

    def _end(self, lost: ConnectionLost) -> None:
        self._lost = self._lost or lost
        self._is_decided.set()
        self._filled.set()

    async def _wait(self, engine: Engine) -> None:
        try:
            await engine.wait()
            self._end(ConnectionLost(self._log.last))
        except Exception as error:  # noqa: BLE001 - the library's, of whatever kind
            self._end(ConnectionLost(f"{type(error).__name__}: {error}"))

    async def _send(self, packet: Packet) -> None:
        engine = self._engine
        if engine is None or engine.state != "connected":
            raise self._lost or ConnectionLost(self._log.last)
        encoded = packet.encode()
        for part in encoded if isinstance(encoded, list) else [encoded]:
            await engine.send(part)


def _bytes(data: Any) -> bytes:
    if isinstance(data, bytes):
        return data
    return (data if isinstance(data, str) else repr(data)).encode("utf-8", "replace")
