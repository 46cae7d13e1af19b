"""`faust -A aiopype`: Faust's own command line runs the flow that the project names."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kafka

FAUST = ("-m", "faust", "-A", "aiopype")
ROOT = Path(__file__).parents[2]

PROGRAM = """
    import asyncio, os
    from aiopype import AsyncFlow, Manager, Processor, Source

    class Numbers(Source):
        async def start(self):
            for n in range(10):
                await self.emit_async("number", n)

    class Shows(Processor):
        def show(self, n):
            open("shown.txt", "a").write(f"{n}\\n")

    class Line(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.shows = Shows(self.build_processor_name("shows"), handler)
            self.source.on("number", self.shows.show)

    class Config:
        FLOWS = [os.environ["NAME"]]

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")
"""


def test_a_worker_runs_the_flow_of_the_environment(
    kafka: str, start: Any, wait_until: Any, tmp_path: Path
) -> None:
    worker = start(
        PROGRAM,
        command=(*FAUST, "worker", "-l", "info"),
        AIOPYPE_FLOW="program.py",
        AIOPYPE_BROKER=kafka,
        NAME="faustrun",
    )
    shown = tmp_path / "shown.txt"
    wait_until(
        lambda: shown.exists() and len(shown.read_text().split()) == 10, 30, what=worker.text
    )
    worker.send(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert shown.read_text().split() == [str(n) for n in range(10)]


def test_a_worker_that_cannot_go_on_ends_with_a_status(kafka: str, start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        worker = start(
            PROGRAM,
            command=(*FAUST, "worker", "-l", "info"),
            AIOPYPE_FLOW="program:dataflow",
            AIOPYPE_BROKER=kafka,
            AIOPYPE_WEB_PORT=str(port),
            NAME="faustfail",
        )
        assert worker.wait(30) != 0
    assert f"cannot listen on 127.0.0.1:{port}" in worker.text


def test_the_agents_of_a_clone_are_the_subscriptions_of_the_demo() -> None:
    listed = subprocess.run(
        [sys.executable, *FAUST, "agents"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert listed.returncode == 0, listed.stderr
    for name in (
        "aapl.source.data -> aapl.prices.handle",
        "aapl.source.data -> aapl.busy_days.handle",
        "aapl.prices.price -> aapl.price_file.write",
        "aapl.busy_days.busy -> aapl.busy_file.write",
        "trades.feed.message -> trades.tape.handle",
        "trades.feed.gap -> trades.feed_log.back",
    ):
        assert name in listed.stdout


def test_without_a_flow_it_says_how_to_name_one(start: Any) -> None:
    worker = start("", command=(*FAUST, "agents"))
    assert worker.wait(30) != 0
    assert "AIOPYPE_FLOW" in worker.text
