"""What REST sources cost: `python -m benchmarks.sources_rest --help`.

So many of them, each at one request a second, poll a server of another process; in process, so
that what is measured is the sources: the requests, the answers, the events.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from aiopype import Processor, SyncProtocol
from aiopype.inputs import RawInput
from aiopype.sources import RestSource
from benchmarks import report

#: The quote that is served, as large as those of the demo.
QUOTE = {
    "list": {
        "meta": {"type": "resource-list", "start": 0, "count": 1},
        "resources": [
            {
                "resource": {
                    "classname": "Quote",
                    "fields": {"name": "Apple Inc.", "price": "101.5", "symbol": "AAPL"}
                    | {"ts": "1460404800", "type": "equity", "volume": "29407518"}
                    | {"utctime": "2016-04-11T20:00:00+0000"},
                }
            }
        ],
    }
}


class Cost(NamedTuple):
    """What a run has cost.

    Attributes:
        requests: answered a second.
        events: made of them, a second.
        cores: the share of a core that this process took.
        megabytes: its memory at the end, and before there was a source.
    """

    requests: float
    events: float
    cores: float
    megabytes: float
    megabytes_before: float


class Counter(Processor):
    """Counts the answers that sources get, and the events they make of them."""

    answers = made = 0

    def tap(self, _source: str, _raw: RawInput) -> None:
        self.answers += 1

    def handle(self, data: Any, time: str) -> None:
        self.made += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog="benchmarks.sources_rest", description=__doc__)
    parser.add_argument("--sources", type=int, default=1_000)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two requests")
    parser.add_argument("--seconds", type=float, default=20.0, help="that are measured")
    parser.add_argument("--options", type=json.loads, default={}, help="of each source, in JSON")
    options = parser.parse_args(arguments)
    print(report.load(), flush=True)
    settings = {"request_interval": options.interval} | options.options
    cost = asyncio.run(measure(options.sources, settings, options.seconds))
    print(
        f"{options.sources:,} sources, {settings}: {cost.requests:,.0f} requests/s, "
        f"{cost.events:,.0f} events/s, "
        f"{cost.cores:.2f} cores, {cost.cores / cost.requests * 1e6:,.0f} us a request, "
        f"{cost.megabytes:,.0f} MB, of which {cost.megabytes_before:,.0f} before the sources"
    )
    return 0


async def measure(count: int, settings: dict[str, Any], seconds: float) -> Cost:
    """Run so many sources for some seconds; those of the start are not counted."""
    async with _server() as url:
        protocol = SyncProtocol()
        before = _megabytes()
        counter = Counter("bench.counter", protocol)
        sources = [
            RestSource(f"bench.source{i}", protocol, f"{url}/quote?id={i}", settings)
            for i in range(count)
        ]
        for source in sources:
            source.on("data", counter.handle)
            source.tap = counter.tap
        tasks = [asyncio.create_task(source.start(), name=source.name) for source in sources]
        await asyncio.sleep(3 * settings["request_interval"])
        gc.collect()
        answers, made = counter.answers, counter.made
        cpu, began = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        cost = Cost(
            requests=(counter.answers - answers) / took,
            events=(counter.made - made) / took,
            cores=(time.process_time() - cpu) / took,
            megabytes=_megabytes(),
            megabytes_before=before,
        )
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return cost


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    command = [sys.executable, "-m", "benchmarks.sources_rest", "--serve"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield (await asyncio.to_thread(process.stdout.readline)).decode().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


async def _serve() -> None:
    body = json.dumps(QUOTE).encode()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/quote", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4_096).start()
    host, port = runner.addresses[0]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


def _megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    if "--serve" in sys.argv:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        asyncio.run(_serve())
    else:
        sys.exit(main())
