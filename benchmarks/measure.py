"""One run of one pipeline: its input written, its process started, watched and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.records import Output, Topics
from benchmarks.workload import Job, quote

__all__ = ["Run", "running", "throughput"]

_ROOT = Path(__file__).resolve().parent.parent
_SETTLE_SECONDS = 1.0  # the broker's, after the input was written
_LOOK_SECONDS = 0.1
_QUIET_SECONDS = 0.5  # without a new row, when there are enough
_STALL_SECONDS = 30.0  # without a new row, when there are too few
_STOP_SECONDS = 15.0


class Sample(NamedTuple):
    """How a process was at one moment."""

    time: float
    processor_seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Run:
    """What one run gave."""

    output: Output
    events_per_second: float
    """From the first price event to the last row: the start is not in it, both steps are."""
    processor_microseconds: float
    """An event, of the pipeline's process, over the same time."""
    memory_bytes: int
    """The most that was seen resident, sampled."""
    first_seconds: float
    """From the start of the process to its first row."""
    log: str
    """The last lines that the pipeline wrote, for when it went wrong."""


def throughput(
    job: Job,
    command: Sequence[str],
    count: int,
    folder: Path,
    *,
    value: Callable[[int], bytes] = quote,
    rows: int | None = None,
) -> Run:
    """Run a pipeline over an input of so many events, all of it there before it starts.

    Arguments:
        value: an event's value, from its index.
        rows: how many rows come of them; one of each if not given.
    """
    with Topics(job) as topics:
        topics.write(count, value)
        time.sleep(_SETTLE_SECONDS)
        started = time.time()
        with running(job, command, folder) as process:
            samples = _watch(process, topics, count if rows is None else rows)
        output = topics.read(count)
    seconds = max(output.last - output.started, 0.001)
    spent = _processor(samples, output.last) - _processor(samples, output.started)
    return Run(
        output=output,
        events_per_second=output.distinct / seconds,
        processor_microseconds=spent / max(output.distinct, 1) * 1e6,
        memory_bytes=max(sample.memory_bytes for sample in samples),
        first_seconds=output.first - started,
        log=_tail(folder / "log.txt"),
    )


@contextmanager
def running(job: Job, command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A pipeline's process in a folder of its own; at the end it is asked to stop, then killed."""
    folder.mkdir(parents=True)
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    environ = {**os.environ, **job.environ(), "PYTHONPATH": path}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _watch(process: subprocess.Popen[bytes], topics: Topics, count: int) -> list[Sample]:
    """Look at the process until its output is complete, stands still, or it has ended."""
    watched = psutil.Process(process.pid)
    samples = [_sample(watched)]
    rows, since = 0, time.monotonic()
    while process.poll() is None:
        with suppress(psutil.Error):  # it has ended just now
            samples.append(_sample(watched))
        found = topics.rows()
        if found != rows:
            rows, since = found, time.monotonic()
        idle = time.monotonic() - since
        if idle > (_QUIET_SECONDS if rows >= count else _STALL_SECONDS):
            break
        time.sleep(_LOOK_SECONDS)
    return samples


def _sample(process: psutil.Process) -> Sample:
    with process.oneshot():
        times = process.cpu_times()
        return Sample(time.time(), times.user + times.system, process.memory_info().rss)


def _processor(samples: Sequence[Sample], moment: float) -> float:
    """The processor time spent until a moment, between two samples in proportion."""
    before = samples[0]
    for after in samples:
        if after.time >= moment:
            share = (moment - before.time) / max(after.time - before.time, 1e-9)
            return before.processor_seconds + share * (
                after.processor_seconds - before.processor_seconds
            )
        before = after
    return before.processor_seconds


def _tail(path: Path) -> str:
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-15:])
