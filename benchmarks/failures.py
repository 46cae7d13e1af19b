"""What failures cost: `python -m benchmarks.failures --help`.

Clean events beside the same with one in a thousand that cannot be handled, and the latency of
all keys beside that of the others while one is in back-off.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from aiopype import broker
from benchmarks import report
from benchmarks.latency import latency
from benchmarks.measure import throughput
from benchmarks.workload import Job, broken, key, quote

EVERY = 1_000
COMMAND = [sys.executable, "-m", "benchmarks.pipelines.aiopype"]


def _poison(index: int) -> bytes:
    return b"{poison" if index % EVERY == 0 else quote(index)


def _raising(index: int) -> bytes:
    return broken(quote(index)) if index % EVERY == 0 else quote(index)


#: What is written, and which part of the events comes out as rows.
INPUTS: dict[str, tuple[Callable[[int], bytes], float]] = {
    "clean": (quote, 1),
    "poison": (_poison, 1 - 1 / EVERY),
    "raising": (_raising, 1 - 1 / EVERY),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog="benchmarks.failures", description="What failures cost.")
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="aiopype-failures-"))
    try:
        print(report.load(), flush=True)
        with broker.running(folder / "kafka") as running:
            _rates(running.address, folder, options.events, options.rounds)
            _latencies(running.address, folder, options.rounds)
        print(report.load())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _rates(address: str, folder: Path, events: int, rounds: int) -> None:
    throughput(Job(address, "warm"), COMMAND, events // 4, folder / "warm")
    rates: dict[str, list[float]] = {name: [] for name in INPUTS}
    for number in range(rounds):
        for name, (value, share) in INPUTS.items():
            job = Job(address, f"{name}{number}", "exactly_once")
            rows = round(events * share)
            run = throughput(job, COMMAND, events, folder / job.name, value=value, rows=rows)
            faults = "" if run.output.distinct == rows else f"  {run.output.faults}"
            rates[name].append(run.events_per_second)
            print(f"{job.name:<10} {run.events_per_second:>9,.0f} events/s{faults}", flush=True)
    clean = rates["clean"]
    for name, found in rates.items():
        ratio = statistics.median(rate / base for rate, base in zip(found, clean, strict=True))
        print(f"one in {EVERY} {name:<8} {statistics.median(found):>9,.0f}/s, {ratio:.2f} x clean")


def _latencies(address: str, folder: Path, rounds: int) -> None:
    for number in range(rounds):
        for name, failing in (("all well", None), ("one key in back-off", key(7))):
            job = Job(address, f"latency{number}{failing is None}", "exactly_once")
            found = latency(job, COMMAND, folder / job.name, failing)
            print(
                f"{name:<20} p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms, "
                f"{found.arrived} of {found.expected}",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
