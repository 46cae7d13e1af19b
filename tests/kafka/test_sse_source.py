"""A stream of server-sent events into Kafka: each event once, over drops and kills."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

pytestmark = pytest.mark.kafka

EVENTS = 20_000

PIPELINE = """
    import os
    from aiopype import AsyncFlow, Manager
    from aiopype.sources import SSESource

    class Stream(Manager):
        name = "stream"

        def __init__(self, handler):
            super().__init__(handler)
            name = self.build_processor_name("source")
            options = {"first_delay_seconds": 0.05, "rate_limit": 4_000}
            self.source = SSESource(name, handler, os.environ["URL"], options)

    class Config:
        FLOWS = ["stream"]

    dataflow = AsyncFlow(Config(), name="stream-flow")

    if __name__ == "__main__":
        dataflow.start()
"""


@pytest.fixture
async def stream() -> AsyncIterator[str]:
    """The URL of a stream of numbers that breaks off in the middle of events."""
    chance = random.Random(7)

    async def answer(request: web.Request) -> web.StreamResponse:
        first = int(request.headers.get("Last-Event-ID", "0")) + 1
        if first > EVENTS:
            return web.Response(status=204)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        last = first + chance.randrange(1, 4_000)
        for number in range(first, min(last, EVENTS) + 1):
            await response.write(b"id: %d\ndata: %d\n\n" % (number, number))
        if last < EVENTS:
            await response.write(b'id: 99999\ndata: "half')
            assert request.transport is not None
            request.transport.close()
        return response

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


@pytest.mark.long
async def test_each_event_comes_once_over_drops_and_kills(
    kafka: str, start: Any, read_topic: Any, stream: str
) -> None:
    async def numbers(count: int) -> list[int]:
        deadline = time.monotonic() + 60.0
        while len(found := await read_topic("stream.source.message")) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count}:\n{program.text[-3000:]}"
            await asyncio.sleep(0.05)
        return [json.loads(record.value)[0] for record in found]

    program = start(PIPELINE, AIOPYPE_BROKER=kafka, URL=stream)
    got = await numbers(1)
    for _ in range(2):
        program.process.kill()
        await asyncio.to_thread(program.wait, 10)
        assert len(got) < EVENTS
        program = start(PIPELINE, AIOPYPE_BROKER=kafka, URL=stream)
        got = await numbers(len(got) + 2_000)

    assert await numbers(EVENTS) == list(range(1, EVENTS + 1))
    program.send(signal.SIGTERM)
    assert await asyncio.to_thread(program.wait, 20) == 0
    assert await numbers(EVENTS) == list(range(1, EVENTS + 1))
