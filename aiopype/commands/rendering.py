"""Dead letters as text for people and as JSON for programs."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from aiopype.commands.letters import Entry, State, said_by
from aiopype.dead_letters import DeadLetter

__all__ = [
    "Row",
    "as_json",
    "as_text",
    "list_as_json",
    "list_as_text",
    "local",
    "one_line",
    "table",
]

#: With fewer groups than letters of this many, a summary says more than the list alone.
SUMMARY_FROM = 10

#: Of a message in a list.
MESSAGE_CHARACTERS = 80

#: Of a value that is not JSON.
DUMP_BYTES = 4_096


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A letter in a list, without the bytes of its original.

    Attributes:
        at_ms: in milliseconds since 1970.
    """

    id: str
    at_ms: int
    state: State
    component: str
    error: str
    message: str
    subscription: str | None = None
    tries: int = 0
    replays: int = 0

    @classmethod
    def of(cls, entry: Entry) -> Row:
        """Return the row of a letter."""
        letter = entry.letter
        return cls(
            id=str(entry.id),
            at_ms=entry.at_ms,
            state=entry.state,
            component=entry.component,
            error=entry.error,
            message=entry.message,
            subscription=letter.subscription if letter else None,
            tries=letter.tries if letter else 0,
            replays=letter.replays if letter else 0,
        )


def list_as_text(rows: Sequence[Row], groups: Counter[tuple[str, str, State]]) -> Iterator[str]:
    """Yield the lines of a list, the summary of all that were found first where it helps.

    Arguments:
        rows: those that are shown, the oldest first.
        groups: how many were found, by component, error and state.
    """
    total = groups.total()
    if not total:
        yield "no dead letters"
        return
    if total > len(rows) or total >= SUMMARY_FROM:
        summary: list[tuple[str, ...]] = [("letters", "component", "error", "state")]
        summary += [(f"{n:,}", *map(one_line, group)) for group, n in groups.most_common()]
        yield from table(summary)
        yield ""
    cells: list[tuple[str, ...]] = [("id", "time", "state", "tries", "replays", "error")]
    for row in rows:
        error = one_line(": ".join(filter(None, (row.error, row.message))), MESSAGE_CHARACTERS)
        counts = (str(row.tries), str(row.replays))
        cells.append((row.id, local(row.at_ms), row.state, *counts, error))
    yield from table(cells)
    if total > len(rows):
        yield f"the latest {len(rows):,} of {total:,}; --limit shows more"


def list_as_json(rows: Sequence[Row], groups: Counter[tuple[str, str, State]]) -> str:
    """Return a list as a JSON object: `letters`, `groups` and `total`."""
    found = [
        {"component": component, "error": error, "state": state, "letters": n}
        for (component, error, state), n in groups.most_common()
    ]
    letters = [msgspec.to_builtins(row) for row in rows]
    return json.dumps({"letters": letters, "groups": found, "total": groups.total()}, indent=2)


def as_text(entry: Entry) -> Iterator[str]:
    """Yield the lines that tell all of a letter."""
    decided = f", {local(entry.decided_ms)}" if entry.decided_ms is not None else ""
    facts = [("id", str(entry.id)), ("state", f"{entry.state}{decided}")]
    facts.append(("time", local(entry.at_ms)))
    letter = entry.letter
    if letter is None:
        yield from table([*facts, ("error", entry.error)])
        yield from ("", f"value, {len(entry.record.value or b''):,} bytes")
        yield from _value(entry.record.value)
        return
    yield from table([*facts, *_facts(letter)])
    if letter.traceback:
        yield from ("", *map(_printable, letter.traceback.rstrip().split("\n")))
    if letter.args or letter.kwargs:
        emitted = {"args": letter.args, "kwargs": letter.kwargs}
        yield from ("", "emitted with", *_pretty(emitted))
    if letter.subscription is not None:
        cut = f", of which here are the first {len(letter.value or b''):,}"
        yield from ("", f"value, {_size(letter):,} bytes{cut if letter.is_cut else ''}")
        yield from _value(letter.value)


def as_json(entry: Entry) -> str:
    """Return all of a letter as a JSON object; bytes are in base64, as in the topic."""
    told: dict[str, Any] = {"id": str(entry.id), "state": entry.state}
    if entry.decided_ms is not None:
        told["decided_ms"] = entry.decided_ms
    if entry.letter is not None:
        told |= msgspec.to_builtins(entry.letter)
    else:
        raw = base64.b64encode(entry.record.value or b"").decode()
        told |= {"error": entry.error, "at_ms": entry.at_ms, "value": raw}
    return json.dumps(told, indent=2)


def local(at_ms: int) -> str:
    """Return a time as the clock on the wall shows it."""
    try:
        return datetime.fromtimestamp(at_ms / 1000).isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):  # somebody's letter may say anything
        return f"{at_ms} ms"


def one_line(text: str, most: int = MESSAGE_CHARACTERS) -> str:
    """Return the beginning of a text on one line, without what a terminal would obey."""
    line = _printable(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _facts(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    yield "component", letter.component
    yield "subscription", letter.subscription or 'none: emitted with emit("error", ...)'
    if letter.topic is not None:
        at = "" if letter.timestamp_ms is None else f", {local(letter.timestamp_ms)}"
        yield "origin", f"{letter.topic}[{letter.partition}] offset {letter.offset}{at}"
    if letter.key is not None:
        yield "key", _brief(letter.key)
    for name, value in letter.headers:
        yield "header", f"{_printable(name)} = {'none' if value is None else _brief(value)}"
    yield "tries", str(letter.tries)
    yield "replays", str(letter.replays)
    yield "error", " ".join(_printable(said_by(letter)).split())


def _size(letter: DeadLetter) -> int:
    return letter.value_bytes if letter.is_cut else len(letter.value or b"")


def _value(value: bytes | None) -> Iterable[str]:
    if value is None:
        return ["none"]
    try:
        return _pretty(msgspec.json.decode(value))
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return _dump(value)


def _pretty(data: Any) -> list[str]:
    return _printable(json.dumps(data, indent=2, ensure_ascii=False, default=str)).split("\n")


def _dump(value: bytes) -> Iterator[str]:
    for start in range(0, min(len(value), DUMP_BYTES), 16):
        chunk = value[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in chunk)
        yield f"{start:08x}  {chunk.hex(' '):<47}  {text}"
    if len(value) > DUMP_BYTES:
        yield f"and {len(value) - DUMP_BYTES:,} bytes more"


def _brief(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return repr(value)
    return text if text.isprintable() else repr(value)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table whose columns are as wide as they need."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip()
