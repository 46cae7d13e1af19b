"""A TCP proxy between one worker and a broker, to cut, slow and refuse what passes.

What is cut is held and passes later, as TCP's retransmissions would make it; neither side is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from .background import Background

__all__ = ["Proxy"]

CHUNK = 65_536


class Proxy:
    """Passes the connections to its port on to another one of this machine, on its own thread.

    Arguments:
        port: where it listens; its own.
        target: the broker's.
    """

    def __init__(self, port: int, target: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.delay_seconds = 0.0
        self._target = target
        self._background = Background("proxy")
        self._passes = {way: asyncio.Event() for way in ("there", "back")}
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = self._background.run(self._serve(port))

    def cut(self, ways: Iterable[str] = ("there", "back")) -> None:
        """Hold what goes `there`, to the broker, and `back`; new connections hang as well."""
        for way in ways:
            self._background.loop.call_soon_threadsafe(self._passes[way].clear)

    def refuse(self) -> None:
        """Reset every connection, and each new one, until healed."""

        async def drop() -> None:
            self._refuses = True
            for writer in self._writers:
                writer.transport.abort()

        self._background.run(drop())

    def heal(self) -> None:
        """Let everything pass, without delay."""
        self.delay_seconds = 0.0
        self._refuses = False
        for event in self._passes.values():
            self._background.loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """End it and its connections."""

        async def stop() -> None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()

        self._background.run(stop())
        self._background.close()

    async def _serve(self, port: int) -> asyncio.Server:
        for event in self._passes.values():
            event.set()
        return await asyncio.start_server(self._accept, "127.0.0.1", port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        broker = None
        try:
            with contextlib.suppress(OSError):
                there, broker = await asyncio.open_connection("127.0.0.1", self._target)
                self._writers |= {writer, broker}
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, broker, "there"))
                    group.create_task(self._pass(there, writer, "back"))
        finally:
            for end in {writer, broker} - {None}:
                assert end is not None
                self._writers.discard(end)
                end.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        """Pass bytes on in order, each so late after it came; a closed end closes the other."""
        loop = asyncio.get_running_loop()
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

        async def take() -> None:
            with contextlib.suppress(OSError):
                while chunk := await reader.read(CHUNK):
                    await held.put((loop.time() + self.delay_seconds, chunk))
            await held.put((0.0, b""))

        taking = asyncio.create_task(take(), name=f"proxy {way}")
        try:
            while True:
                due, chunk = await held.get()
                await asyncio.sleep(due - loop.time())
                await self._passes[way].wait()
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
        except OSError:
            return
        finally:
            taking.cancel()
            writer.close()
