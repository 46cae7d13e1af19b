"""What the sources of the family get from real servers, recorded and played: the same events."""

import json
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import WSMsgType, web

from aiopype import Manager
from aiopype.clock import SystemClock
from aiopype.recording import RecordingWriter
from aiopype.sources import (
    FileSource,
    HistoryTimeEmitter,
    RestSource,
    SSESource,
    TimeSource,
    WebsocketSource,
)
from aiopype.testing import run_managers

QUICK = {"first_delay_seconds": 0.001, "last_delay_seconds": 0.01}


class Server:
    """Answers polls with numbered pages, some of them faulty; streams; and closes a websocket."""

    def __init__(self):
        self.polls = 0
        self.sockets = 0

    async def rest(self, request):
        page = int(request.query.get("page", "1"))
        if page == 1:
            self.polls += 1
        if self.polls == 2 and page == 1:
            self.polls += 1
            return web.Response(status=500)
        if self.polls == 4:
            return web.Response(text="<html>", content_type="application/json")
        items = [{"id": 10 * self.polls + page, "text": "ü"}]
        return web.json_response({"items": items, "next": "?page=2" if page == 1 else None})

    async def stream(self, request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        last = int(request.headers.get("Last-Event-ID", "0"))
        for number in range(last + 1, last + 4):
            await response.write(b'id: %d\ndata: {"n": %d}\n\n' % (number, number))
        await response.write(b"data: no json\n\n")
        return response

    async def socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets += 1
        for number in range(3):
            await socket.send_str(json.dumps({"n": 10 * self.sockets + number}))
        await socket.send_str("no json")
        await socket.send_bytes(b'{"n": 5}')
        if self.sockets > 2:
            async for message in socket:
                assert message.type is not WSMsgType.TEXT
        return socket


@asynccontextmanager
async def serving(server):
    app = web.Application()
    app.router.add_get("/rest", server.rest)
    app.router.add_get("/stream", server.stream)
    app.router.add_get("/socket", server.socket)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    finally:
        await runner.cleanup()


class Pages(RestSource):
    def next_page(self, data, answer):
        return data["next"]


def rest(name, handler, address, folder):
    options = {**QUICK, "request_interval": 0.01, "items": "items", "pages": 3}
    return Pages(name, handler, f"http://{address}/rest", options)


def stream(name, handler, address, folder):
    return SSESource(name, handler, f"http://{address}/stream", QUICK)


def socket(name, handler, address, folder):
    return WebsocketSource(name, handler, f"ws://{address}/socket", QUICK)


def lines(name, handler, address, folder):
    file = folder / "lines.jsonl"
    file.write_bytes(b'{"n": 1}\n{"n": 2}\ngarbage\n{"n": 3}\n')
    return FileSource(name, handler, file)


def history(name, handler, address, folder):
    return HistoryTimeEmitter(name, handler, 1_000, 60, 1_600)


def ticks(name, handler, address, folder):
    return TimeSource(name, handler, 1)


def count(letters, **events):
    """Says whether there are so many events of each name, and dead letters."""

    def are_there(run):
        found = {name: len(run.events(f"taped.source.{name}")) for name in events}
        return len(run.dead_letters) >= letters and all(found[n] >= events[n] for n in events)

    return are_there


@pytest.mark.parametrize(
    ("source", "is_enough"),
    [
        pytest.param(rest, count(1, data=6), id="REST, pages"),
        pytest.param(stream, count(2, message=6), id="SSE"),
        pytest.param(socket, count(3, message=12, connected=3, gap=2), id="websocket"),
        pytest.param(lines, count(1, line=3), id="file"),
        pytest.param(history, count(0, cron=10), id="ticks of the past"),
        pytest.param(ticks, count(0, cron=1), id="ticks"),
    ],
)
async def test_a_recording_gives_the_events_that_the_source_gave(tmp_path, source, is_enough):
    class Recorded(Manager):
        name = "taped"  # no other test's: the class may outlive this one

        def __init__(self, handler):
            super().__init__(handler)
            self.source = source(self.build_processor_name("source"), handler, address, tmp_path)

    def events_of(run):
        topics = run.manager.handler.graph.topics_of("taped.source")
        events = {t.event: run.records(t.full_name) for t in topics if t.event != "error"}
        letters = [(letter.error, letter.value) for letter in run.dead_letters]
        return {name: found for name, found in events.items() if found}, letters

    path = tmp_path / "recording.jsonl"
    async with serving(Server()) as address:
        with RecordingWriter(path, "flow", 0.0) as writer:
            async with run_managers(Recorded, clock=SystemClock()) as run:
                run.manager.source.tap = writer.write
                run.start_sources()
                await run.until(lambda: is_enough(run))
            given = events_of(run)

    for _ in range(2):
        async with run_managers(Recorded) as run:
            await run.replay(path)
            assert msgspec.to_builtins(events_of(run)) == msgspec.to_builtins(given)
