"""The tables of `docs/metrics.md`: `python -m aiopype.metrics.documentation` writes them."""

from __future__ import annotations

import sys
from itertools import groupby

from aiopype.metrics.definitions import METRICS, Metric

__all__ = ["tables"]


def tables() -> str:
    """Return all metrics as Markdown, a table for each row of the dashboards."""
    order = list(dict.fromkeys(metric.row for metric in METRICS.values()))
    metrics = sorted(METRICS.values(), key=lambda metric: order.index(metric.row))
    lines = []
    for row, found in groupby(metrics, key=lambda metric: metric.row):
        lines += [f"## {row}", "", "| metric | type | labels | is |", "|---|---|---|---|"]
        lines += [*map(_line, found), ""]
    return "\n".join(lines)


def _line(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"


if __name__ == "__main__":
    sys.stdout.write(tables())
