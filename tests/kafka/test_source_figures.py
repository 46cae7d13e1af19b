"""What a worker and the brokers tell of its sources: figures, readiness, and `sources list`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.kafka

PIPELINE = """
    import asyncio, os
    from pathlib import Path
    from aiopype import AsyncFlow, Manager, RestartPolicy, Source
    from aiopype.sources import RestSource, WebsocketSource

    URL = os.environ["URL"]
    QUICK = {"first_delay_seconds": 0.05, "last_delay_seconds": 0.1}

    class Own(Source):
        events = ("number",)
        restarts = RestartPolicy(failures=0)

        async def start(self):
            while True:
                if Path("broken").exists():
                    raise OSError("no route")
                await self.emit_async("number", 1)
                await asyncio.sleep(0.02)

    class Prices(Manager):
        name = "seen"
        restarts = RestartPolicy(first_delay_seconds=0.2, last_delay_seconds=0.2, failures=1_000)

        def __init__(self, handler):
            super().__init__(handler)
            named = self.build_processor_name
            RestSource(named("rest"), handler, f"http{URL}/rest", QUICK | {"request_interval": 0.1})
            WebsocketSource(named("feed"), handler, f"ws{URL}/feed", QUICK | {"expect_every": 1.5})
            Own(named("own"), handler)

    class Config:
        FLOWS = ["seen"]

    dataflow = AsyncFlow(Config(), name="seen-flow")

    if __name__ == "__main__":
        dataflow.start()
"""


class Upstream:
    """A REST API that fails three times, and a websocket that is cut once, then goes on.

    Attributes:
        speaks: while it is set, the websocket has something to say.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests = self.connections = 0
        self.speaks = asyncio.Event()
        self.speaks.set()

    async def rest(self, _request: web.Request) -> web.Response:
        self.requests += 1
        return web.json_response({"n": self.requests}, status=500 if self.requests <= 3 else 200)

    async def feed(self, request: web.Request) -> web.WebSocketResponse:
        self.connections += 1
        is_first = self.connections == 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"n": 0})
        while not (is_first or socket.closed):
            await self.speaks.wait()
            await socket.send_json({"n": 1})
            await asyncio.sleep(0.05)
        await socket.close(code=1001)
        return socket


class Worker:
    """A worker of the flow, as seen from outside."""

    def __init__(self, program: Any, port: int, broker: str, folder: Path) -> None:
        self.program = program
        self._port = port
        self._folder = folder
        self._env = {"AIOPYPE_BROKER": broker, "URL": ":"}

    async def figures(self) -> dict[tuple[str, ...], float]:
        """The metrics of sources and errors by name without prefix, component and last label."""
        text = await self._get("/metrics")
        found = {}
        for family in text_string_to_metric_families(text):
            for name, labels, value, *_ in family.samples:
                if name.startswith(("aiopype_source_", "aiopype_errors_")):
                    last = [labels[k] for k in ("outcome", "state", "error") if k in labels]
                    key = (name.removeprefix("aiopype_"), labels["component"], *last)
                    found[key] = value
        return found

    async def problems(self) -> dict[str, Any]:
        report = json.loads(await self._get("/health/ready") or '{"problems": {"it": "starts"}}')
        problems: dict[str, Any] = report["problems"]
        return problems

    async def run(self, *words: str) -> str:
        """Run `aiopype sources COMMAND program.py ...`; return what it said."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("AIOPYPE_")}
        command, *others = words
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "aiopype", "sources", command, "program.py", *others,
            cwd=self._folder, env=environ | self._env, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
        assert process.returncode == 0, said
        return said.decode()

    async def listed(self, source: str) -> dict[str, Any]:
        found = json.loads(await self.run("list", "--json"))["sources"]
        told: dict[str, Any] = next(each for each in found if each["source"] == source)
        return told

    async def _get(self, path: str) -> str:
        url = f"http://127.0.0.1:{self._port}{path}"
        return await asyncio.to_thread(_text, url)


def _text(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return ""


async def until(ask: Callable[[], Awaitable[Any]], worker: Worker, seconds: float = 60.0) -> Any:
    """Ask until the answer is one; return it."""
    deadline = time.monotonic() + seconds
    while not (answer := await ask()):
        assert time.monotonic() < deadline, worker.program.text[-5000:]
        await asyncio.sleep(0.05)
    return answer


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    app = web.Application()
    app.router.add_get("/rest", made.rest)
    app.router.add_get("/feed", made.feed)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_what_is_told_of_sources_is_so(
    kafka: str, start: Any, upstream: Upstream, unused_tcp_port: int, tmp_path: Path
) -> None:
    program = start(
        PIPELINE, AIOPYPE_BROKER=kafka, AIOPYPE_WEB_PORT=str(unused_tcp_port), URL=upstream.url
    )
    worker = Worker(program, unused_tcp_port, kafka, tmp_path)

    # A REST API that failed three times, and a websocket that was cut once.
    async def goes_on() -> dict[tuple[str, ...], float]:
        seen = await worker.figures()
        is_there = seen.get(("source_attempts_total", "rest", "ok"), 0) > 1
        return seen if is_there and seen["source_reconnects_total", "feed"] else {}

    seen = await until(goes_on, worker)
    assert seen["source_attempts_total", "rest", "failed"] == 3
    assert seen["errors_total", "rest", "StatusError"] == 3
    assert seen["source_reconnects_total", "rest"] == 0
    # A machine that stands still for a while makes the feed silent, and connects once more.
    reconnects = seen["source_reconnects_total", "feed"]
    assert seen["source_attempts_total", "feed", "ok"] == reconnects + 1
    assert seen["source_attempts_total", "feed", "failed"] == 0
    assert reconnects == 1 + seen.get(("errors_total", "feed", "SourceSilent"), 0)
    assert seen["errors_total", "feed", "ConnectionLost"] == 1
    assert seen["source_silence_limit_seconds", "feed"] == 1.5
    assert ("source_silence_limit_seconds", "rest") not in seen
    for name in ("rest", "feed", "own"):
        assert seen["source_epoch", name] == 1
        assert seen["source_outbox_events", name] < 100
        for what in ("last_event", "last_heard"):
            age = time.time() - seen[f"source_{what}_timestamp_seconds", name]
            assert -1 < age < 60, (name, what)

    async def is_ready() -> bool:
        return not await worker.problems()

    await until(is_ready, worker)

    # A websocket that says nothing: not ready, also while it is connected again.
    upstream.speaks.clear()

    async def silent() -> Any:
        return (await worker.problems()).get("source seen.feed")

    problem = await until(silent, worker)
    assert "nothing" in problem["reason"]
    assert "expect_every" in problem["reason"]
    assert problem["since"] is not None
    upstream.speaks.set()
    await until(is_ready, worker)
    assert (await worker.figures())["errors_total", "feed", "SourceSilent"] >= 1

    # One that is paused is not this worker's to tell of.
    await worker.run("pause", "seen.rest")
    assert not [key for key in await worker.figures() if key[:2] == ("source_epoch", "rest")]
    assert {key[1] for key in await worker.figures() if key[0].startswith("source_")} == {
        "feed",
        "own",
    }

    # Of one in quarantine the brokers know, without the worker.
    (tmp_path / "broken").touch()

    async def quarantined() -> Any:
        told = await worker.listed("seen.own")
        return told if told["state"] == "quarantined" else None

    told = await until(quarantined, worker)
    assert told["stopped"]["reason"].endswith("OSError: no route")
    assert told["stopped"]["again_ms"] > told["stopped"]["since_ms"]
    (tmp_path / "broken").unlink()
    await worker.run("restart", "seen.own")
    assert (await worker.listed("seen.own"))["state"] == "running"
