"""The live view of a run in a terminal, and the summary at its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aiopype.errors import HandlerError
from aiopype.manager import Manager
from aiopype.pipelines import Pipelines
from aiopype.progress import Rate, RecentErrors, TopicProgress, Trouble, duration
from aiopype.replays import is_replays
from aiopype.states import State, Status
from aiopype.topics import ERROR

__all__ = ["EventRow", "ManagerRow", "Picture", "View"]

logger = logging.getLogger(__name__)

#: Between two pictures.
REFRESH_SECONDS = 0.25

#: A wider table is not easier to read.
MOST_COLUMNS = 100

_HEADER = "bold dim"


class EventRow(NamedTuple):
    """An event's line in the view; None is what nobody knows."""

    name: str
    events: int
    rate: float
    age_seconds: float | None = None
    lag: int | None = None


class ManagerRow(NamedTuple):
    """A manager's line in the view."""

    name: str
    state: str
    sources: str = "-"


@dataclass(frozen=True)
class Picture:
    """What is shown at one moment, or of a whole run; rich draws it in whatever room there is."""

    title: str
    events: Sequence[EventRow]
    managers: Sequence[ManagerRow]
    last: Sequence[Trouble] = ()
    troubles: str = "no warnings or errors"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it; rows that do not fit are left out, and their number is told."""
        # Around the rows: three empty lines, the title, two headers and the terminal's last line.
        room = console.size.height - 7 - (len(self.last) + 2 if self.last else 0)
        managers = _manager_table(self.managers, max(2, room // 3))
        yield ""
        yield _cut(self.title, options.max_width, "bold")
        yield ""
        yield _event_table(self.events, max(2, room - managers.row_count), options.max_width)
        yield ""
        yield managers
        if self.last:
            yield ""
            yield Text(self.troubles, _HEADER)
        for trouble in self.last:
            at = time.strftime("%H:%M:%S", time.localtime(trouble.seconds))
            line = f"{at} {trouble.level:<7} {trouble.text}".splitlines()[0]
            yield _cut(line, options.max_width, "yellow" if trouble.level == "WARNING" else "red")

    def summary(self, width: int) -> Iterator[Text | Table]:
        """Return what is printed of a run that is over."""
        yield Text(f"\n{self.title}", "bold")
        yield _event_table(self.events, len(self.events), width, over=True)
        for name, state, _ in self.managers:
            yield Text.assemble(f"manager {name}: ", (state, _style_of(state)))
        yield Text(self.troubles)


class View:
    """Draws what a flow does while it runs, and prints what it has done.

    Lines that are logged or printed meanwhile appear above the view and stay there. When drawing
    fails the flow goes on without.

    Arguments:
        flow: its name.
        pipelines: the flow's managers.
        console: where to draw; the terminal if not given.
        clock: gives seconds.
    """

    def __init__(
        self,
        flow: str,
        pipelines: Pipelines,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title = f"{flow} in process"
        self._flow = flow
        self._pipelines = pipelines
        self._console = console or _console(sys.stderr)
        self._clock = clock
        self._began = self._ended = clock()
        self._rates: defaultdict[str, Rate] = defaultdict(Rate)
        self._recent = RecentErrors()

    async def around(self, run: Coroutine[Any, Any, None], broker: str | None = None) -> None:
        """Await `run` with the view on; `broker` is what the flow is connected to, if to any."""
        if broker is not None:
            self._title = f"{self._flow} on {broker}"
        self._began = self._clock()
        over = asyncio.Event()
        drawing = asyncio.create_task(self._draw(over), name="live view")
        with _heard(self._recent):
            try:
                await run
            finally:
                self._ended = self._clock()
                over.set()
                await drawing

    def tell(self) -> None:
        """Print what the run has done, to standard output."""
        console = _console(sys.stdout)
        console.print(*self.picture(over=True).summary(console.width), sep="\n")

    def picture(self, *, over: bool = False) -> Picture:
        """Return what is to be seen now; or, when the run is over, of the whole run."""
        now = self._ended if over else self._clock()
        title = f"{self._title}, up {timedelta(seconds=int(now - self._began))}"
        if over:
            title = f"{self._title}, ran {duration(now - self._began)}"
        elif owned := self._partitions():
            title += f", {owned} partitions"
        return Picture(
            title,
            self._events(now, over=over),
            [self._manager(manager, over=over) for manager in self._pipelines.managers],
            tuple(self._recent.last),
            self._recent.in_words(),
        )

    def _partitions(self) -> int:
        """How many partitions this worker owns of what is shown."""
        graph, progress = self._pipelines.protocol.graph, self._pipelines.protocol.progress
        shown = [t.name for t in graph.topics() if not is_replays(t.component)]
        return sum(
            len(progress.topics[name].partitions) for name in shown if name in progress.topics
        )

    def _events(self, now: float, *, over: bool) -> list[EventRow]:
        graph, progress = self._pipelines.protocol.graph, self._pipelines.protocol.progress
        subscribed = {topic for topic, _ in graph.subscribed()}
        rows = []
        for topic in graph.topics():
            figures = progress.topics.get(topic.name, TopicProgress())
            count = figures.handled if topic in subscribed else figures.emitted
            if is_replays(topic.component) or (topic.event == ERROR and not figures.emitted):
                continue  # every component with handlers has one; seen when there is an error
            rate = self._rates[topic.name].update(now, count)
            if over:
                rate = count / max(now - self._began, 0.001)
            rows.append(EventRow(topic.name, count, rate, figures.age_seconds, figures.lag))
        return rows

    def _manager(self, manager: Manager, *, over: bool) -> ManagerRow:
        name, supervisor = str(manager.name), self._pipelines.supervisor
        status = supervisor.status(name)
        if status.is_down or status.state is State.ENDED:
            return ManagerRow(name, _in_words(status))
        here = self._pipelines.protocol.progress.sources
        sources = [source.name for source in manager.sources if source.is_owned]
        own = [name for name in sources if name in here]
        known = supervisor.sources
        # One line has room for one; that in quarantine is the one to know of.
        down = sorted(_in_words(s) for name, s in known.items() if name in own and s.is_down)
        trouble = f"{down[0]}, {len(down)} of {len(own)}" if down else ""
        if over:
            return ManagerRow(name, f"sources {trouble}" if trouble else "no failure")
        if not sources:
            return ManagerRow(name, "running")
        return ManagerRow(
            name, "running", trouble or ("ended" if manager.done else "here" if own else "not here")
        )

    async def _draw(self, over: asyncio.Event) -> None:
        live = Live(console=self._console, auto_refresh=False, transient=True)
        try:
            with _above(live):
                while not over.is_set():
                    # In a thread: a terminal that is halted (Ctrl-S) does not halt the flow.
                    await asyncio.to_thread(live.update, self.picture(), refresh=True)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(over.wait(), REFRESH_SECONDS)
        except Exception:
            logger.exception("the live view has ended, the flow runs on without")


def _console(file: TextIO) -> Console:
    # What programs print is text: no markup, no emoji, no colours of rich's own.
    return Console(file=file, markup=False, emoji=False, highlight=False)


@contextlib.contextmanager
def _above(live: Live) -> Iterator[None]:
    """Show a display; what is printed or logged to the terminal meanwhile appears above it."""
    handlers = [
        (handler, handler.stream)
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream in {sys.stdout, sys.stderr}
    ]
    live.start()
    try:
        for handler, _ in handlers:
            handler.setStream(sys.stderr)  # rich has put its own there
        yield
    finally:
        for handler, stream in handlers:
            handler.setStream(stream)
        live.stop()


@contextlib.contextmanager
def _heard(recent: RecentErrors) -> Iterator[None]:
    """Let `recent` hear of what is logged, but for what the log leaves out."""
    root = logging.getLogger()
    for leave_out in {each for handler in root.handlers for each in handler.filters}:
        recent.addFilter(leave_out)
    root.addHandler(recent)
    try:
        yield
    finally:
        root.removeHandler(recent)


def _event_table(rows: Sequence[EventRow], room: int, width: int, *, over: bool = False) -> Table:
    headers = ["events", "events/s", *([] if over else ["age", "lag"])]
    cells = [_numbers(row)[: len(headers)] for row in rows]
    # These have a least width, so that they stand still; the name gets what they leave.
    widths = [max(9, *map(len, column)) for column in zip(headers, *cells, strict=True)]
    for_name = max(9, min(width, MOST_COLUMNS) - sum(widths) - 2 * len(widths))
    table = _table("event")
    for header, least in zip(headers, widths, strict=True):
        table.add_column(header, justify="right", no_wrap=True, min_width=least)
    _add_rows(
        table, room, [(_shorten(r.name, for_name), *c) for r, c in zip(rows, cells, strict=True)]
    )
    return table


def _manager_table(rows: Sequence[ManagerRow], room: int) -> Table:
    table = _table("manager", "state", "sources")
    _add_rows(table, room, [(r.name, Text(r.state, _style_of(r.state)), r.sources) for r in rows])
    return table


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_HEADER)
    for header in headers:
        table.add_column(header, no_wrap=True)
    return table


def _add_rows(table: Table, room: int, rows: Sequence[Sequence[str | Text]]) -> None:
    fitting = len(rows) if len(rows) <= room else room - 1
    for row in rows[:fitting]:
        table.add_row(*row)
    if fitting < len(rows):
        table.add_row(Text(f"and {len(rows) - fitting} more", "dim"))


def _numbers(row: EventRow) -> list[str]:
    rate = f"{row.rate:.1f}" if 0 < row.rate < 10 else f"{row.rate:,.0f}"
    age = "-" if row.age_seconds is None else duration(row.age_seconds)
    lag = "-" if row.lag is None else f"{row.lag:,}"
    return [f"{row.events:,}", rate, age, lag]


def _in_words(status: Status) -> str:
    error = status.error
    if error is None:
        return str(status.state)
    cause = error.__cause__ if isinstance(error, HandlerError) else None
    return f"{status.state}: {type(cause or error).__name__}"


def _style_of(state: str) -> str:
    if State.QUARANTINED in state:
        return "red"
    return "yellow" if State.RESTARTING in state else "green"


def _shorten(text: str, width: int) -> str:
    """Cut the middle out: a name's start says whose event it is, its end which."""
    if len(text) <= width:
        return text
    tail = width // 2
    return f"{text[: width - tail - 1]}…{text[len(text) - tail :]}"


def _cut(text: str, width: int, style: str) -> Text:
    line = Text(text, style)
    line.truncate(width, overflow="ellipsis")
    return line
