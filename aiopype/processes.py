"""Several workers of one flow under one command, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from aiopype.logs import about
from aiopype.supervision import stopped_by_signals

__all__ = ["run_workers", "stop_with_parent"]

logger = logging.getLogger(__name__)

#: A worker that ended by itself is started again after this.
AGAIN_SECONDS = 1.0

#: So many ends of workers within so many seconds, and all are stopped: they cannot go on.
ENDS, WITHIN_SECONDS = 5, 60.0

#: A worker drains for 14 s at most; then it is killed.
STOP_SECONDS = 20.0


async def run_workers(commands: Sequence[Sequence[str]], *, may_end: bool = False) -> int:
    """Run a process for each command until SIGTERM or SIGINT; return the exit status.

    A process that ends by itself is started again after a second, so that a killed worker comes
    back. When five have ended within a minute the others are stopped and the status is 1. Asked to
    stop, each is asked to, and the status is 0 if all end well.

    Arguments:
        commands: arguments for the Python interpreter.
        may_end: whether a worker that ends with 0 has nothing more to do; it is not started again.
    """
    stopping = asyncio.Event()
    ends: deque[float] = deque(maxlen=ENDS)
    with stopped_by_signals(stopping.set):
        keepers = [
            asyncio.create_task(
                _keep(number, command, stopping, ends, may_end), name=f"worker {number}"
            )
            for number, command in enumerate(commands, 1)
        ]
        statuses = await asyncio.gather(*keepers)
    return 0 if all(status == 0 for status in statuses) else 1


async def _keep(
    number: int,
    command: Sequence[str],
    stopping: asyncio.Event,
    ends: deque[float],
    may_end: bool,
) -> int:
    while True:
        # Its input is a pipe of ours that stays open: a worker stops when it closes, so that none
        # outlives this process, whatever ends it.
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdin=asyncio.subprocess.PIPE
        )
        status = await _until_ended(process, stopping)
        if stopping.is_set() or (may_end and status == 0):
            return status
        ends.append(time.monotonic())
        logger.error(
            "worker %d (process %d) has ended with status %d", number, process.pid, status,
            extra=about(apart=process.pid),
        )  # fmt: skip
        if len(ends) == ENDS and ends[-1] - ends[0] < WITHIN_SECONDS:
            logger.error("%d workers have ended within %g s; all are stopped", ENDS, WITHIN_SECONDS)
            stopping.set()
            return 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), AGAIN_SECONDS)
            return status


async def _until_ended(process: asyncio.subprocess.Process, stopping: asyncio.Event) -> int:
    ended = asyncio.create_task(process.wait(), name=f"wait for process {process.pid}")
    asked = asyncio.create_task(stopping.wait(), name="wait for stop")
    await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not ended.done():
        process.send_signal(signal.SIGTERM)
        _, late = await asyncio.wait({ended}, timeout=STOP_SECONDS)
        if late:
            logger.error("process %d did not end in %g s and is killed", process.pid, STOP_SECONDS)
            process.kill()
    return await ended


def stop_with_parent(stop: Callable[[], None]) -> None:
    """Call `stop` when standard input closes: whoever started this process is gone."""

    def watch() -> None:
        # Not sys.stdin: the interpreter cannot end while a thread holds its lock.
        while os.read(0, 4096):
            pass
        while True:  # what is about to start can be stopped only when it has
            stop()
            time.sleep(0.5)

    threading.Thread(target=watch, name="wait for the parent's end", daemon=True).start()
