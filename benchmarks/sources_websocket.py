"""How fast a `WebsocketSource` is: a server floods it, from a process of its own.

    python -m benchmarks.sources_websocket                     # in process, as fast as it goes
    python -m benchmarks.sources_websocket --slow 2000         # a slow handler: memory stays flat

Ways to take the same frames, each in a process of its own: aiohttp's client alone, which is what
there is to win; the source with a protocol that only counts, which is the source's own cost; that
with a position and a key in each message; and the source in a flow in process, with a handler that
counts. The server sends without end, as fast as it is read.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

import aiohttp
import psutil

from aiopype import Processor, SyncProtocol
from aiopype.protocol.wiring import Wiring
from aiopype.sources import WebsocketSource

#: What a WebSocket handshake adds to the key (RFC 6455, 1.3).
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

#: Frames that the server writes at once.
_BLOCK = 200

_LOOK_SECONDS = 0.05


class Figures(NamedTuple):
    """What one way gave."""

    messages: int
    seconds: float
    processor_seconds: float
    memory_bytes: int
    """The most that was seen resident, sampled."""
    growth_bytes: int
    """From the first fifth of the run to its end."""


# --- the server


def _frame(number: int) -> bytes:
    payload = json.dumps(
        {
            "symbol": f"SYM{number % 50:02}-EUR",
            "sequence": 10_000_000 + number,
            "price": 1234.5 + number,
            "size": 0.25,
            "time": 1_700_000_000.123,
            "side": "buy",
        }
    ).encode()
    assert len(payload) < 126  # more needs another header
    return bytes((0x81, len(payload))) + payload


async def _serve() -> None:
    """Flood each client, by hand: a library's server would be the slower side."""
    block = b"".join(map(_frame, range(_BLOCK)))

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        key = next(value for name, value in lines.items() if name.lower() == b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        with suppress(ConnectionError):
            while True:
                writer.write(block)
                await writer.drain()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


# --- the ways to take it


class Counter(Wiring):
    """A protocol that counts what sources emit, and keeps their positions."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.positions: dict[str, bytes] = {}

    def emit(self, topic: Any, key: Any, value: bytes) -> None:
        self.count += 1

    async def emit_async(self, topic: Any, key: Any, value: bytes) -> None:
        self.count += 1

    async def emit_all(self, component: str, events: Any, position: bytes | None) -> None:
        self.count += len(events)

    def position(self, component: str) -> bytes | None:
        return self.positions.get(component)

    def checkpoint(self, component: str, position: bytes) -> None:
        self.positions[component] = position

    def epoch(self, component: str) -> int:
        return 1

    async def flush(self, component: str) -> None:
        pass


class Sink(Processor):
    """Counts; as fast as it can, or so many a second."""

    def __init__(self, name: str, handler: Any, rate: float | None) -> None:
        super().__init__(name, handler)
        self.count = 0
        self._rate = rate

    def take(self, data: dict[str, Any]) -> None:
        self.count += 1

    async def take_slowly(self, data: dict[str, Any]) -> None:
        self.count += 1
        assert self._rate is not None
        await asyncio.sleep(1 / self._rate)


class Positioned(WebsocketSource):
    """Has a position and a key in each message."""

    def position_of(self, message: Any) -> Any:
        return message["sequence"]

    def key_of(self, message: Any) -> Any:
        return message["symbol"]


async def _alone(url: str, count: int, _rate: float | None) -> Figures:
    taken = 0

    async def run() -> None:
        nonlocal taken
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as websocket:
            while taken < count:
                await websocket.receive()
                taken += 1

    return await _measured(run(), lambda: taken, count)


async def _source(url: str, count: int, _rate: float | None) -> Figures:
    protocol = Counter()
    feed = WebsocketSource("bench.source", protocol, url)
    return await _measured(feed.start(), lambda: protocol.count, count)


async def _positions(url: str, count: int, _rate: float | None) -> Figures:
    protocol = Counter()
    feed = Positioned("bench.source", protocol, url)
    return await _measured(feed.start(), lambda: protocol.count, count)


async def _flow(url: str, count: int, rate: float | None) -> Figures:
    protocol = SyncProtocol()
    feed = WebsocketSource("bench.source", protocol, url)
    sink = Sink("bench.sink", protocol, rate)
    feed.on("message", sink.take if rate is None else sink.take_slowly)
    protocol.freeze()
    return await _measured(feed.start(), lambda: sink.count, count)


WAYS: dict[str, tuple[str, Callable[[str, int, float | None], Awaitable[Figures]]]] = {
    "alone": ("aiohttp alone", _alone),
    "source": ("WebsocketSource", _source),
    "positions": ("... with positions and keys", _positions),
    "flow": ("... and a handler, in process", _flow),
}


async def _measured(
    work: Coroutine[Any, Any, None], taken: Callable[[], int], count: int
) -> Figures:
    """Run until so many were taken; the start is not in the figures."""
    process = psutil.Process()
    task = asyncio.create_task(work)
    while not taken() and not task.done():
        await asyncio.sleep(0.001)
    before, began, spent = taken(), time.perf_counter(), time.process_time()
    early = most = process.memory_info().rss
    while taken() < count and not task.done():
        await asyncio.sleep(_LOOK_SECONDS)
        most = max(most, process.memory_info().rss)
        if taken() - before < (count - before) / 5:
            early = most
    figures = Figures(
        taken() - before,
        time.perf_counter() - began,
        time.process_time() - spent,
        most,
        most - early,
    )
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return figures


# --- the command


def _run(way: str, url: str, arguments: argparse.Namespace) -> Figures:
    command = [sys.executable, "-m", __spec__.name, "--way", way, "--url", url]
    command += ["--messages", str(arguments.messages)]
    if arguments.slow is not None:
        command += ["--slow", str(arguments.slow)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Figures(*json.loads(ended.stdout))


def _report(arguments: argparse.Namespace) -> None:
    command = [sys.executable, "-m", __spec__.name, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"ws://127.0.0.1:{int(server.stdout.readline())}/"
            print(f"{'':32}{'messages/s':>12}{'CPU us each':>13}{'peak MB':>9}{'grown MB':>10}")
            ways = list(WAYS) if arguments.slow is None else ["flow"]
            for way in ways * arguments.rounds:
                figures = _run(way, url, arguments)
                print(
                    f"{WAYS[way][0]:32}{figures.messages / figures.seconds:12,.0f}"
                    f"{figures.processor_seconds / figures.messages * 1e6:13.2f}"
                    f"{figures.memory_bytes / 1e6:9.0f}{figures.growth_bytes / 1e6:10.1f}"
                )
        finally:
            server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--slow", type=float, help="a handler that takes so many a second")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(_serve())
    elif arguments.way:
        _, take = WAYS[arguments.way]
        print(json.dumps(asyncio.run(take(arguments.url, arguments.messages, arguments.slow))))
    else:
        _report(arguments)


if __name__ == "__main__":
    main()
