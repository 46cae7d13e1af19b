"""A file into Kafka: each line once, whatever becomes of the worker and of the file's name."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kafka

PIPELINE = """
    import os
    from aiopype import AsyncFlow, Manager
    from aiopype.sources import FileSource

    class Line(Manager):
        name = os.environ["NAME"]

        def __init__(self, handler):
            super().__init__(handler)
            self.source = FileSource(
                self.build_processor_name("source"),
                handler,
                "data.jsonl",
                {"poll_interval": 0.1, "rate_limit": 20_000},
            )

    class Config:
        FLOWS = [os.environ["NAME"]]

    dataflow = AsyncFlow(Config(), name=os.environ["NAME"] + "-flow")

    if __name__ == "__main__":
        dataflow.start()
"""


@pytest.mark.long
async def test_each_line_comes_once_over_kills_and_rotations(
    kafka: str, start: Any, read_topic: Any, tmp_path: Path
) -> None:
    path, written = tmp_path / "data.jsonl", 0

    def write(count: int) -> None:
        nonlocal written
        with path.open("a") as file:
            file.writelines(f'{{"n":{n}}}\n' for n in range(written, written + count))
        written += count

    async def numbers(count: int, seconds: float = 40.0) -> list[int]:
        deadline = time.monotonic() + seconds
        while len(found := await read_topic("files.source.line")) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count}:\n{program.text[-3000:]}"
            await asyncio.sleep(0.05)
        return [json.loads(record.value)["n"] for record in found]

    write(80_000)  # three seconds of them
    program = start(PIPELINE, AIOPYPE_BROKER=kafka, NAME="files")
    got = await numbers(1)
    program.process.kill()
    program.wait(10)
    assert len(got) < written

    path.rename(tmp_path / "data.jsonl.1")
    write(1_000)
    program = start(PIPELINE, AIOPYPE_BROKER=kafka, NAME="files")
    await numbers(written)
    path.rename(tmp_path / "data.jsonl.2")
    write(1_000)
    await numbers(written)
    program.process.kill()
    program.wait(10)
    program = start(PIPELINE, AIOPYPE_BROKER=kafka, NAME="files")
    write(1_000)

    assert await numbers(written) == list(range(written))
    program.send(signal.SIGTERM)
    assert program.wait(20) == 0
    assert await numbers(written) == list(range(written))
