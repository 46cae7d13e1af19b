"""Draws the rows of the boards with what a Prometheus knows: to look at them without a Grafana.

    pip install matplotlib
    python deploy/grafana/draw.py --prometheus http://127.0.0.1:9090 --minutes 5 --out docs/pictures

Each panel's queries are asked as Grafana asks them and drawn in the panel's place. It is a drawing
of the queries: Grafana's own colours, legends and axes look otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from PIL import Image

from aiopype.deploy import grafana
from aiopype.deploy.grafana_panels import Look, Panel, PanelRow
from aiopype.deploy.grafana_queries import STATES, Query
from aiopype.target import load_flow

INK, PAPER, GRID = "#d8d9da", "#181b1f", "#2c3235"
COLOURS = ("#73bf69", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#fade2a", "#8ab8ff", "#ca95e5")
STATE_COLOURS = ("#6e7077", "#73bf69", "#ff9830", "#f2495c")
NAMED = {"green": "#73bf69", "yellow": "#fade2a", "red": "#f2495c"}
#: So many names fit below a panel.
NAMES = 8


class Series(NamedTuple):
    """One line: its name, times and values."""

    name: str
    labels: dict[str, str]
    times: list[float]
    values: list[float]


class Window:
    """A time at a Prometheus.

    Arguments:
        url: of the Prometheus.
        begin, end: seconds since 1970.
        interval: seconds; what stands for `$__rate_interval`, four scrapes.
    """

    def __init__(self, url: str, begin: float, end: float, interval: int) -> None:
        self._url = url
        self.begin, self.end = begin, end
        self._interval = interval

    def ask(self, query: Query, step: float) -> list[Series]:
        """Return the series of a query, with everything chosen."""
        expr = query.expr.replace("$__rate_interval", f"{self._interval}s")
        expr = expr.replace("$__range", f"{int(self.end - self.begin)}s")
        expr = re.sub(r"\$(flow|manager|component|instance)\b", ".*", expr)
        asked = {"query": expr, "start": self.begin, "end": self.end, "step": step}
        url = f"{self._url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - it is the user's own
            found = json.load(answer)["data"]["result"]
        return [_series(one, query.legend, self.begin) for one in found]


def _series(one: dict[str, Any], legend: str, begin: float) -> Series:
    labels = one["metric"]
    name = re.sub(r"\{\{(\w+)\}\}", lambda m: labels.get(m[1], ""), legend).strip()
    times = [float(at) - begin for at, _ in one["values"]]
    return Series(name or "value", labels, times, [float(value) for _, value in one["values"]])


def draw(row: PanelRow, window: Window, file: Path) -> None:
    """Draw a row into a file."""
    places = list(_places(row))
    rows = max(y + panel.height for panel, _, y in places)
    figure = plt.figure(figsize=(16, rows * 0.40), facecolor="#111217")
    grid = figure.add_gridspec(rows, 24, left=0.03, right=0.99, top=1 - 0.8 / rows, bottom=0.01)
    for panel, x, y in places:
        place = grid[y : y + panel.height, x : x + panel.width]
        _panel(figure.add_subplot(place), panel, window)
    figure.savefig(file, dpi=75, facecolor=figure.get_facecolor())
    plt.close(figure)
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(160)
    small.save(file, optimize=True)


def _places(row: PanelRow) -> Iterator[tuple[Panel, int, int]]:
    x = y = height = 0
    for panel in row.panels:
        if x + panel.width > 24:
            x, y, height = 0, y + height, 0
        yield panel, x, y
        x, height = x + panel.width, max(height, panel.height)


def _panel(axes: Axes, panel: Panel, window: Window) -> None:
    box = axes.get_position()
    inside = 0.012 * (panel.look not in {Look.NUMBER, Look.TABLE})
    axes.set_position([box.x0 + inside, box.y0, box.width - inside - 0.008, box.height])
    axes.set_facecolor(PAPER)
    axes.set_title(panel.title, color=INK, fontsize=9, loc="left", pad=3)
    axes.tick_params(colors=INK, labelsize=7, length=0)
    for side in axes.spines.values():
        side.set_color(GRID)
    if panel.look is Look.NUMBER:
        _number(axes, panel, window)
    elif panel.look is Look.TABLE:
        _table(axes, panel, window)
    else:
        step = max(1.0, (window.end - window.begin) / 300)
        series = [one for query in panel.queries for one in window.ask(query, step)]
        series.sort(key=lambda one: -max((v for v in one.values if v == v), default=0.0))  # noqa: PLR0124 - NaN
        below = (
            0.18 if panel.look is Look.STATES else 0.08 + 0.08 * math.ceil(len(series[:NAMES]) / 3)
        )
        box = axes.get_position()
        axes.set_position(
            [box.x0, box.y0 + box.height * below, box.width, box.height * (0.88 - below)]
        )
        _states(axes, series) if panel.look is Look.STATES else _lines(axes, panel, series)
        axes.set_xlim(0, window.end - window.begin)
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda v, _: f"{int(v) // 60}:{int(v) % 60:02}")
        )


def _lines(axes: Axes, panel: Panel, series: list[Series]) -> None:
    axes.grid(color=GRID, linewidth=0.6)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: shown(v, panel.unit)))
    if panel.look is Look.STACKED:
        times = sorted({at for one in series for at in one.times})
        filled = [
            [dict(zip(s.times, s.values, strict=True)).get(at, 0) for at in times] for s in series
        ]
        axes.stackplot(times, filled, labels=[s.name for s in series], colors=COLOURS, alpha=0.6)
    else:
        for colour, one in zip(COLOURS * 9, series[:60], strict=False):
            axes.plot(*_with_gaps(one), color=colour, linewidth=1.1, label=one.name)
    for limit, colour in panel.limits:
        if limit is not None and limit < axes.get_ylim()[1]:
            axes.axhline(limit, color=NAMED[colour], linestyle="--", linewidth=0.8)
    axes.set_ylim(bottom=0)
    handles, names = axes.get_legend_handles_labels()
    if len(names) > NAMES:
        names[NAMES - 1] = f"and {len(names) - NAMES + 1} more"
    axes.legend(
        handles[:NAMES], names[:NAMES], loc="upper left", bbox_to_anchor=(-0.02, -0.09), ncols=3,
        fontsize=6.5, frameon=False, labelcolor=INK, handlelength=1, columnspacing=1,
    )  # fmt: skip


def _with_gaps(one: Series) -> tuple[list[float], list[float]]:
    """Return times and values with a hole where there was nothing."""
    step = min((b - a for a, b in zip(one.times, one.times[1:], strict=False)), default=1.0)
    times, values = one.times[:1], one.values[:1]
    for at, value in zip(one.times[1:], one.values[1:], strict=True):
        if at - times[-1] > 1.5 * step:
            times.append(at - step)
            values.append(math.nan)
        times.append(at)
        values.append(value)
    return times, values


def _states(axes: Axes, series: list[Series]) -> None:
    series = sorted(series, key=lambda one: one.name, reverse=True)
    for number, one in enumerate(series):
        step = min((b - a for a, b in zip(one.times, one.times[1:], strict=False)), default=1.0)
        for at, value in zip(one.times, one.values, strict=True):
            axes.broken_barh([(at, step)], (number - 0.4, 0.8), color=STATE_COLOURS[int(value)])
    axes.set_yticks(range(len(series)), [one.name for one in series])
    marks = [mpl.patches.Patch(color=STATE_COLOURS[n], label=str(s)) for s, n in STATES.items()]
    axes.legend(
        handles=marks, loc="upper left", bbox_to_anchor=(-0.02, -0.09), ncols=4, fontsize=6.5,
        frameon=False, labelcolor=INK, handlelength=1,
    )  # fmt: skip


def _number(axes: Axes, panel: Panel, window: Window) -> None:
    series = [one for query in panel.queries for one in window.ask(query, 1)]
    axes.set_xticks([])
    axes.set_yticks([])
    values = [value for one in series for value in one.values if not math.isnan(value)]
    last = values[-1] if values else 0.0
    colour = NAMED["green"]
    for limit, name in panel.limits:
        if limit is None or last >= limit:
            colour = NAMED[name]
    if "$__range" not in panel.queries[0].expr and series:
        twin = axes.twinx()
        twin.set_position(axes.get_position())
        twin.fill_between(series[0].times, series[0].values, color=colour, alpha=0.15)
        twin.set_ylim(0, max(values, default=1.0) * 2.5 or 1.0)
        twin.axis("off")
    text = shown(last, panel.unit)
    axes.text(0.5, 0.55, text, color=colour, fontsize=19, ha="center", va="center",
              transform=axes.transAxes)  # fmt: skip


def _table(axes: Axes, panel: Panel, window: Window) -> None:
    axes.axis("off")
    found = window.ask(panel.queries[0], 1)
    heads = list(dict.fromkeys(label for one in found for label in one.labels))
    lines = ["  ".join(f"{head[:9]:<9}" for head in heads)]
    lines += ["  ".join(f"{one.labels.get(head, '')[:9]:<9}" for head in heads) for one in found]
    axes.text(0, 0.95, "\n".join(lines), color=INK, fontsize=6, family="monospace", va="top",
              transform=axes.transAxes)  # fmt: skip


def shown(value: float, unit: str) -> str:
    """Return a value in its unit, short."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        for size, name in ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return f"{value * 1e6:.3g} µs" if value else "0"
    base, names = (
        (1024, ("", "Ki", "Mi", "Gi", "Ti")) if unit == "bytes" else (1000, ("", "k", "M", "G"))
    )
    step = 0
    while abs(value) >= base and step < len(names) - 1:
        value, step = value / base, step + 1
    ends = {"bytes": "B", "eps": " /s", "ops": " /s"}
    return f"{value:.3g} {names[step]}{ends.get(unit, '')}".replace("  ", " ").strip()


def main() -> None:
    """Draw."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    options.add_argument("--target", help="a flow, whose own rows are drawn as well")
    options.add_argument("--end", type=float, default=time.time(), help="seconds since 1970")
    options.add_argument("--minutes", type=float, default=60)
    options.add_argument("--interval", type=int, default=60, help="four scrapes, in seconds")
    options.add_argument("--out", type=Path, default=Path("docs/pictures"))
    told = options.parse_args()
    window = Window(told.prometheus, told.end - told.minutes * 60, told.end, told.interval)
    rows = grafana.general_rows()
    if told.target:
        rows = grafana.flow_rows(load_flow(told.target).build())
    told.out.mkdir(parents=True, exist_ok=True)
    for row in rows:
        draw(row, window, told.out / f"{row.title.lower().replace(' ', '-')}.png")


if __name__ == "__main__":
    mpl.use("agg")
    main()
