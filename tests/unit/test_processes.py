"""Processes under one command, with programs that need no Kafka."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from aiopype import processes

WAITS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({status}))
open({file!r}, "a").write("started\\n")
while True:
    time.sleep(0.05)
"""


def waits(file: Path, status: int = 0) -> list[str]:
    return ["-c", WAITS.format(file=str(file), status=status)]


def starts(file: Path) -> int:
    return file.read_text().count("started") if file.exists() else 0


def children(file: Path) -> list[psutil.Process]:
    """Those of this process that were told of `file`; others are not ours."""
    return [c for c in psutil.Process().children() if str(file) in " ".join(c.cmdline())]


async def until(condition: Any, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def own_sigterm() -> Iterator[None]:
    """A run that was asked to end takes no notice of the signal afterwards; this process shall."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def test_each_command_is_run_and_ended_by_a_signal(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    run = asyncio.create_task(processes.run_workers([waits(file) for file in files]))
    await until(lambda: all(starts(file) == 1 for file in files))
    stop_this_process()
    assert await asyncio.wait_for(run, 10) == 0


async def test_one_that_ends_badly_when_asked_to_makes_the_status_1(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    run = asyncio.create_task(processes.run_workers([waits(files[0]), waits(files[1], status=3)]))
    await until(lambda: all(starts(file) == 1 for file in files))
    stop_this_process()
    assert await asyncio.wait_for(run, 10) == 1


async def test_one_that_was_killed_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "AGAIN_SECONDS", 0.05)
    file = tmp_path / "one"
    run = asyncio.create_task(processes.run_workers([waits(file)]))
    await until(lambda: starts(file) == 1)
    (child,) = children(file)
    child.kill()
    await until(lambda: starts(file) == 2)
    stop_this_process()
    assert await asyncio.wait_for(run, 10) == 0


async def test_those_that_cannot_go_on_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "AGAIN_SECONDS", 0.01)
    file = tmp_path / "one"
    fails = ["-c", "raise SystemExit(1)"]
    assert await asyncio.wait_for(processes.run_workers([fails, waits(file)]), 20) == 1
    assert children(file) == []


def test_none_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    file = tmp_path / "one"
    child = f"""
        import sys, time
        from aiopype.processes import stop_with_parent
        ended = []
        stop_with_parent(lambda: ended.append(True))
        open({str(file)!r}, "a").write("started\\n")
        while not ended:
            time.sleep(0.02)
        open({str(file)!r}, "a").write("ended\\n")
    """
    parent = f"""
        import asyncio
        from aiopype.processes import run_workers
        asyncio.run(run_workers([["-c", {textwrap.dedent(child)!r}]]))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(parent)])
    try:
        deadline = time.monotonic() + 10
        while starts(file) == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    while "ended" not in file.read_text():
        assert time.monotonic() < deadline, "it runs on"
        time.sleep(0.02)


async def test_a_worker_that_may_end_and_ends_well_is_not_started_again(tmp_path: Path) -> None:
    commands = [["-c", f"open({str(tmp_path / name)!r}, 'a').write('started')"] for name in "ab"]

    assert await asyncio.wait_for(processes.run_workers(commands, may_end=True), 20) == 0

    assert [starts(tmp_path / name) for name in "ab"] == [1, 1]


async def test_a_worker_that_may_end_and_fails_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "AGAIN_SECONDS", 0.01)
    file = tmp_path / "a"
    fails_once = (
        "import sys; from pathlib import Path\n"
        f"file = Path({str(file)!r}); again = file.exists()\n"
        "file.open('a').write('started'); sys.exit(0 if again else 3)"
    )

    assert (
        await asyncio.wait_for(processes.run_workers([["-c", fails_once]], may_end=True), 20) == 0
    )

    assert starts(file) == 2
