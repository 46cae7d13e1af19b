"""The log of workers in JSON: under Faust's command line, and of several under one command."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kafka

PROGRAM = """
    import os
    from aiopype import AsyncFlow, Manager, Processor, Retry, Source

    class Numbers(Source):
        async def start(self):
            for n in range(500):
                await self.emit_async("number", n)

    class Fails(Processor):
        retry = Retry(tries=1)

        def handle(self, n):
            with open("handled.txt", "a") as file:
                file.write(".")
            raise LookupError("several\\nlines")

    class Line(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            self.source = Numbers(self.build_processor_name("source"), handler)
            self.fails = Fails(self.build_processor_name("fails"), handler)
            self.source.on("number", self.fails.handle)

    class Config:
        FLOWS = [os.environ["NAME"]]

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")
"""


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def check(lines: list[dict[str, Any]], name: str) -> None:
    """Whatever fails 500 times is told once, and summed up at the end."""
    letters = [line for line in lines if line["level"] == "WARNING"]
    assert [line.get("times") for line in letters] == [None, 499]
    for line in letters:
        assert line["component"] == f"{name}.fails"
        assert line["topic"] == f"{name}.source.number"
        assert line["error"]["type"] == "LookupError"
    assert all(line["flow"] == f"{name}-flow" for line in lines)


def test_under_faust_the_log_is_ours(
    kafka: str, start: Any, wait_until: Any, tmp_path: Path
) -> None:
    worker = start(
        PROGRAM,
        command=("-m", "faust", "-A", "aiopype", "worker", "-l", "info"),
        AIOPYPE_FLOW="program.py",
        AIOPYPE_BROKER=kafka,
        AIOPYPE_WEB_PORT="0",
        AIOPYPE_LOG_FORMAT="json",
        NAME="logfaust",
    )
    handled = tmp_path / "handled.txt"
    wait_until(lambda: handled.exists() and handled.stat().st_size == 500, 60, what=worker)

    worker.send(signal.SIGTERM)

    assert worker.wait(30) == 0
    check(lines_of(worker.text), "logfaust")
    assert "[INFO]" not in worker.text  # as Faust writes it


def test_each_line_says_which_worker_of_several_it_is_of(
    kafka: str, start: Any, wait_until: Any
) -> None:
    workers = start(
        PROGRAM,
        command=("-m", "aiopype", "run", "program.py", "--workers", "2", "--web-port", "0"),
        AIOPYPE_BROKER=kafka,
        AIOPYPE_LOG_FORMAT="json",
        NAME="logmany",
    )
    wait_until(
        lambda: "is a dead letter in" in workers.text and workers.text.count("is up on") == 2,
        60,
        what=workers,
    )

    workers.send(signal.SIGTERM)

    assert workers.wait(30) == 0
    assert len(lines_of(workers.text)) == len(workers.text.splitlines())
    up = [line["worker"] for line in lines_of(workers.text) if "is up on" in line["message"]]
    assert sorted(up) == [1, 2]
