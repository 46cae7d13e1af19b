"""What is printed: the machine, and one table."""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from aiopype.broker import jars
from benchmarks.latency import Latency
from benchmarks.measure import Run
from benchmarks.pipelines import YARDSTICK, Pipeline

__all__ = ["Results", "load", "machine", "table"]

_MEGABYTE = 1_000_000
_LIBRARIES = ("aiokafka", "msgspec", "orjson")


@dataclass
class Results:
    """What one pipeline gave, a run for each round that came to an end."""

    events: int
    runs: dict[int, Run] = field(default_factory=dict)
    """By round."""
    latency: Latency | None = None

    @property
    def right(self) -> bool:
        """Whether every run gave all rows, and the right ones."""
        return all(run.output.right for run in self.runs.values())

    @property
    def faults(self) -> str:
        """What was not right, of the first run where it was not."""
        return next((r.output.faults for r in self.runs.values() if not r.output.right), "no run")


def machine(pipelines: Iterable[Pipeline]) -> list[str]:
    """Lines that say where and with what the figures came about."""
    libraries = {p.distribution for p in pipelines if p.distribution} | set(_LIBRARIES)
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores ({_processor()}), Python {platform.python_version()}, "
        f"Apache Kafka {jars.VERSION} embedded on the same machine",
        ", ".join(f"{name} {version(name)}" for name in sorted(libraries)),
    ]


def load() -> str:
    """How busy the machine is."""
    return "load {:.2f} {:.2f} {:.2f}".format(*os.getloadavg())


def table(results: Mapping[Pipeline, Results], *, with_latency: bool) -> list[str]:
    """A table in Markdown, aligned for the eye."""
    heads = [
        "pipeline",
        "events/s, median (min to max)",
        f"x {YARDSTICK}",
        "CPU µs/event",
        "peak MB",
        "start s",
        *(["p50 ms", "p99 ms"] if with_latency else []),
        "events",
    ]
    yardstick = next((r.runs for p, r in results.items() if p.name == YARDSTICK), {})
    rows = [heads]
    for pipeline, result in results.items():
        cells = [pipeline.title, *_figures(result, yardstick)]
        if with_latency:
            cells += _latencies(result.latency)
        rows.append([*cells, f"{result.events:,}"])
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    written = [_row(row, widths) for row in rows]
    return [written[0], rule, *written[1:]]


def _figures(result: Results, yardstick: Mapping[int, Run]) -> list[str]:
    runs = list(result.runs.values())
    if not runs or not result.right:
        return [f"incomplete: {result.faults}", "", "", "", ""]
    rates = [run.events_per_second for run in runs]
    ratios = [
        run.events_per_second / yardstick[number].events_per_second
        for number, run in result.runs.items()
        if number in yardstick and yardstick[number].output.right
    ]
    return [
        f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
        f"{statistics.median(ratios):.2f}" if ratios else "-",
        f"{statistics.median(run.processor_microseconds for run in runs):.1f}",
        f"{max(run.memory_bytes for run in runs) / _MEGABYTE:.0f}",
        f"{statistics.median(run.first_seconds for run in runs):.1f}",
    ]


def _latencies(latency: Latency | None) -> list[str]:
    if latency is None or math.isnan(latency.p50):
        return ["incomplete", ""]
    if latency.arrived < latency.expected:
        return ["incomplete", f"{latency.arrived}/{latency.expected}"]
    return [f"{latency.p50:.1f}", f"{latency.p99:.1f}"]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return (
        " | ".join([f"| {first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in others)])
        + " |"
    )


def _processor() -> str:
    """The processor's name, where the system tells it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
