"""Compare the pipelines: `python -m benchmarks.run --help`."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aiopype import broker
from aiopype.errors import BrokerError
from benchmarks import java, report
from benchmarks.latency import PER_SECOND, latency
from benchmarks.measure import throughput
from benchmarks.pipelines import PIPELINES, YARDSTICK, Pipeline
from benchmarks.report import Results
from benchmarks.workload import Job

_NAMES = [pipeline.name for pipeline in PIPELINES]
_WARM_UP_EVENTS = 100_000

Commands = dict[Pipeline, list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say; return 1 when a pipeline's output was not complete."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it cleans up as Ctrl-C does
    parent = Path(tempfile.mkdtemp(prefix="aiopype-bench-", dir=options.data))
    try:
        commands = _commands(options.only, parent / "java")
        for line in report.machine(commands):
            print(line)
        print(report.load(), flush=True)
        with broker.running(parent / "kafka") as running:
            bench = Bench(running.address, parent, commands, options.events)
            bench.warm_up()
            for number in range(1, options.rounds + 1):
                bench.round(number)
            if options.latency:
                bench.latencies()
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(parent, ignore_errors=True)
    print(report.load(), end="\n\n")
    print(*report.table(bench.results, with_latency=options.latency), sep="\n")
    return 0 if all(result.right for result in bench.results.values()) else 1


class Bench:
    """Runs of all pipelines on one broker."""

    def __init__(self, address: str, folder: Path, commands: Commands, events: int) -> None:
        self.results = {p: Results(events=max(1, int(events * p.share))) for p in commands}
        self._address = address
        self._folder = folder
        self._commands = commands

    def warm_up(self) -> None:
        """Let the broker's runtime compile itself, which the first pipeline would pay for."""
        job, folder = self._job(YARDSTICK, 0, "at_least_once")
        throughput(job, _python(YARDSTICK), _WARM_UP_EVENTS, folder)

    def round(self, number: int) -> None:
        """Run each pipeline once."""
        for pipeline, command in self._commands.items():
            results = self.results[pipeline]
            job, folder = self._job(pipeline.name, number, pipeline.guarantee)
            run = throughput(job, command, results.events, folder)
            results.runs[number] = run
            line = f"round {number}: {pipeline.name:<12} {run.events_per_second:>9,.0f} events/s"
            print(f"{line}  {run.output.faults}", flush=True)
            if not run.output.right:
                print(run.log, flush=True)

    def latencies(self) -> None:
        """Measure each pipeline's latency once."""
        for pipeline, command in self._commands.items():
            job, folder = self._job(f"{pipeline.name}_latency", 1, pipeline.guarantee)
            found = latency(job, command, folder)
            self.results[pipeline].latency = found
            line = f"latency: {pipeline.name:<12} {found.p50:.1f} ms, 99 %: {found.p99:.1f} ms"
            print(line, flush=True)

    def _job(self, name: str, number: int, guarantee: str) -> tuple[Job, Path]:
        job = Job(self._address, f"{name}{number}", guarantee)
        return job, self._folder / job.name


def _python(name: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.pipelines.{name}"]


def _commands(only: Sequence[str], folder: Path) -> Commands:
    """What to run, and how; says what is left out and why."""
    commands: Commands = {}
    for pipeline in PIPELINES:
        if pipeline.name not in only:
            continue
        try:
            if pipeline.distribution is None:
                commands[pipeline] = java.command(folder, print)
            else:
                version(pipeline.distribution)
                commands[pipeline] = _python(pipeline.module)
        except PackageNotFoundError:
            print(f"left out: {pipeline.name}, {pipeline.distribution} is not installed")
        except (BrokerError, subprocess.CalledProcessError) as error:
            print(f"left out: {pipeline.name}, {error}")
    return commands


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.run", description="Compare aiopype with other ways to do the same work."
    )
    parser.add_argument(
        "--events", type=int, default=600_000, help="of a fast pipeline; slow ones get a share"
    )
    parser.add_argument("--rounds", type=int, default=3, help="each runs every pipeline once")
    parser.add_argument(
        "--only", type=_names, default=_NAMES, help=f"some of {','.join(_NAMES)}", metavar="A,B"
    )
    parser.add_argument(
        "--latency", action="store_true", help=f"measure latency too, at {PER_SECOND} events/s"
    )
    parser.add_argument("--data", type=Path, help="where the folder for the run's data is made")
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in _NAMES:
            raise argparse.ArgumentTypeError(f"{name!r}; choose from {', '.join(_NAMES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
