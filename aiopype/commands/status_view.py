"""The status of a flow as a person reads it, in a terminal of any width, a pipe or a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aiopype.commands.rendering import local, one_line
from aiopype.commands.status_facts import EventFacts, FlowFacts
from aiopype.progress import duration

__all__ = ["StatusView", "drawing", "show"]

#: The first column has at least this; where the others leave less, the last ones are left out.
NAME_COLUMNS = 14

#: No cell but a name is wider.
CELL_COLUMNS = 32

#: What is piped or written to a file is not cut.
FILE_COLUMNS = 10_000

_HEADER = "bold dim"

_NUMBERS = frozenset(
    ("members", "partitions", "sources", "lag", "oldest", "handled/s", "written/s", "owners",
     "committed", "end", "epoch", "events", "open", "replayed", "discarded", "all")
)  # fmt: skip


class _Part(NamedTuple):
    """A table, the most important columns first.

    Attributes:
        rank: those with higher ones are left out first.
        header, rows: of the table.
        wrong: first cells of rows that are marked.
    """

    rank: int
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    wrong: frozenset[str] = frozenset()


@dataclass(frozen=True)
class StatusView:
    """What is shown of a flow; rich draws it in whatever room there is.

    Attributes:
        facts: of the last look.
        with_partitions: whether each partition has a line.
        fits: whether it may be no higher than the terminal; then the worst is shown.
        error: why there was no later look.
    """

    facts: FlowFacts
    with_partitions: bool = False
    fits: bool = False
    error: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it; what does not fit is left out, and the number of rows is told."""
        height = console.size.height - 1 if self.fits else 1_000_000
        lines = [*self._head(), *self._remarks()]
        most = max(3, height // 2)
        if len(lines) > most:
            lines[most - 1 :] = [Text(f"and {len(lines) - most + 1} lines more", "dim")]
        if self.fits:
            for line in lines:
                line.truncate(options.max_width, overflow="ellipsis")
        yield from lines
        # Each part has an empty line and a header, and two rows at least.
        left = height - len(lines)
        parts = [part for part in self._parts() if part.rows]
        while len(parts) > 1 and 4 * len(parts) > left:
            parts.remove(max(parts, key=lambda part: part.rank))
        for number, part in enumerate(parts):
            share = left // (len(parts) - number)
            table = _table(_cut(part, max(2, share - 2)), options.max_width)
            left -= table.row_count + 2
            yield ""
            yield table

    def _head(self) -> Iterator[Text]:
        yield self._title()
        if self.error:
            yield Text(f"since then: {self.error}", "bold red")
        groups = [f"{what} {g.state} ({g.members:,})" for what, g in self.facts.groups.items()]
        yield Text(f"groups of workers: {', '.join(groups)}", "dim")

    def _title(self) -> Text:
        facts = self.facts
        count = len(facts.troubles)
        wrong = "one thing is wrong" if count == 1 else f"{count} things are wrong"
        verdict = ("well", "bold green") if facts.is_well else (wrong, "bold red")
        return Text.assemble(
            verdict, f": flow {facts.flow} on {facts.brokers}, {local(facts.at_ms)[11:]}"
        )

    def _remarks(self) -> Iterator[Text]:
        for trouble in self.facts.troubles:
            yield Text(f"! {trouble.text}", "red")
            if trouble.next:
                yield Text(f"  {trouble.next}")
        for note in self.facts.notes:
            yield Text(f"- {note.text}{f': {note.next}' if note.next else ''}", "yellow")

    def _parts(self) -> Iterator[_Part]:
        facts = self.facts
        yield _Part(
            3, ("worker", "partitions", "sources", "address"),
            [
                (one_line(w.worker, 250), _number(w.partitions), _number(w.sources),
                 one_line(w.address))
                for w in facts.workers
            ],
        )  # fmt: skip
        yield self._partitions() if self.with_partitions else self._events()
        yield _Part(
            4,
            ("waits to be tried again", "events"),
            [(w.subscription, f"{w.events:,}{'' if w.is_exact else '+'}") for w in facts.waiting],
        )
        yield self._sources()
        yield _Part(
            2, ("dead letters of", "open", "replayed", "discarded", "all"),
            [
                (each.component, _number(each.open), _number(each.replayed),
                 _number(each.discarded), f"{'' if each.open is not None else '~'}{each.letters:,}")
                for each in facts.dead_letters
            ],
            frozenset(each.component for each in facts.dead_letters if each.open != 0),
        )  # fmt: skip

    def _events(self) -> _Part:
        shown = [e for e in self.facts.events if not e.is_internal or e.lag or self._is_wrong(e)]
        rates = any(e.written_rate is not None for e in shown)
        header = ("event", "lag", "oldest", *(("handled/s", "written/s") if rates else ()))
        wrong = [e for e in shown if self._is_wrong(e)]
        worst = sorted(shown, key=lambda e: (e in wrong, e.lag or 0), reverse=True)
        rows = [
            (
                e.event,
                _number(e.lag),
                _ago(e.lag_seconds, e.lag),
                *((_rate(e.handled_rate), _rate(e.written_rate)) if rates else ()),
                f"{len(e.partitions)}",
                f"{len(e.owners)}" if e.is_subscribed else "nobody",
            )
            for e in (worst if self.fits else shown)
        ]
        return _Part(0, (*header, "partitions", "owners"), rows, frozenset(e.event for e in wrong))

    def _partitions(self) -> _Part:
        rows = [
            (
                f"{e.event}[{p.partition}]",
                _number(p.lag),
                _ago(p.lag_seconds, p.lag),
                _number(p.committed),
                _number(p.end),
                one_line(p.owner or "none") if e.is_subscribed else "-",
            )
            for e in self.facts.events
            for p in e.partitions
        ]
        header = ("partition", "lag", "oldest", "committed", "end", "owner")
        wrong = {row[0] for row in rows if row[-1] == "none"}
        return _Part(0, header, rows, frozenset(wrong))

    def _sources(self) -> _Part:
        now_ms = self.facts.at_ms
        rows = []
        for source in self.facts.sources:
            written = source["written_ms"]
            ago = "" if written is None else f"{duration(max(0, now_ms - written) / 1000)} ago"
            rows.append(
                (
                    one_line(source["source"], 250),
                    source["state"],
                    one_line(source["worker"] or "none"),
                    f"{source['epoch'] or ''}",
                    ago,
                    one_line(source["pinned_to"] or ""),
                )
            )
        wrong = frozenset(each.about for each in self.facts.troubles if each.kind == "source")
        header = ("source", "state", "worker", "epoch", "written", "pinned to")
        return _Part(1, header, rows, wrong)

    def _is_wrong(self, event: EventFacts) -> bool:
        return any(trouble.about == event.event for trouble in self.facts.troubles)


def show(facts: FlowFacts, *, with_partitions: bool) -> None:
    """Draw a flow on standard output."""
    _console().print(StatusView(facts, with_partitions))


@contextlib.contextmanager
def drawing(*, with_partitions: bool) -> Iterator[Callable[[FlowFacts | None, str], None]]:
    """Give what draws a flow again and again: in a terminal each time in place of the last.

    It takes what was seen last, if anything was, and why there was no later look.
    """
    console = _console()
    in_place = console.is_terminal and not console.is_dumb_terminal

    def view(facts: FlowFacts | None, error: str) -> StatusView | Text:
        if facts is None:
            return Text(f"looking again and again: {error}", "bold red")
        return StatusView(facts, with_partitions, in_place, error)

    if not in_place:
        yield lambda facts, error: console.print(view(facts, error), "")
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda facts, error: live.update(view(facts, error), refresh=True)


def _console() -> Console:
    # Without a terminal, or with NO_COLOR, rich draws no colours; what is piped is not cut.
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = FILE_COLUMNS
    return console


def _table(part: _Part, width: int) -> Table:
    """Return a table as wide as there is room: its last columns may be missing."""
    cells = [[each if n == 0 else _shorten(each, CELL_COLUMNS) for n, each in enumerate(row)]
             for row in part.rows]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(part.header, *cells, strict=True)]
    shown = len(widths)
    while shown > 1 and NAME_COLUMNS + sum(n + 2 for n in widths[1:shown]) > width:
        shown -= 1
    for_name = max(NAME_COLUMNS, width - sum(n + 2 for n in widths[1:shown]))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_HEADER)
    for header in part.header[:shown]:
        justify: Literal["left", "right"] = "right" if header in _NUMBERS else "left"
        table.add_column(header, justify=justify, no_wrap=True)
    for full, row in zip(part.rows, cells, strict=True):
        style = "red" if full[0] in part.wrong else ""
        table.add_row(_shorten(row[0], for_name), *row[1:shown], style=style)
    return table


def _cut(part: _Part, room: int) -> _Part:
    if len(part.rows) <= room:
        return part
    more = (f"and {len(part.rows) - room + 1} more", *("" for _ in part.header[1:]))
    return part._replace(rows=[*part.rows[: room - 1], more])


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}"


def _ago(seconds: float | None, lag: int | None) -> str:
    return duration(seconds) if seconds is not None and lag else "-"


def _shorten(text: str, width: int) -> str:
    """Cut the middle out: a name's start says whose it is, its end which."""
    if len(text) <= width:
        return text
    tail = width // 2
    return f"{text[: width - tail - 1]}…{text[len(text) - tail :]}"
