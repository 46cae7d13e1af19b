"""Which records are the same fault again, and how often: pure arithmetic over records."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path

from aiopype.logs.about import component_of, error_of, text_of

__all__ = ["WINDOW_SECONDS", "Repeats"]

#: After the first of a kind, those that follow are counted for so long.
WINDOW_SECONDS = 60.0

#: Most kinds that are told apart; of more the oldest is told and forgotten.
KINDS = 1_000

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_LIBRARIES = frozenset(
    {"aiokafka", "faust", "mode", "asyncio", "opentelemetry", "py"}
)  # py.warnings

#: Beginnings of what aiokafka says while a broker is away, beside errors that may be tried again.
_OUTAGE = (
    "Unable to update metadata",
    "Marking the coordinator dead",
    "Heartbeat failed for group",
    "Heartbeat session expired",
)

#: What is told of the last of a kind.
_KEPT = ("component", "topic", "partition", "offset")

#: What a program prints under `faust worker`.
_PRINTED = "mode.redirect"


class _Window:
    __slots__ = ("count", "end", "last")

    def __init__(self, end: float) -> None:
        self.end = end
        self.count = 0
        self.last: logging.LogRecord | None = None


class Repeats:
    """Lets the first of a kind pass and counts those that follow, within windows of a minute.

    Of a kind are records of one level and template about the same component and class of error.
    Only what aiopype and its libraries log is counted; a user's own lines all pass, and so does
    what is CRITICAL. While a kind goes on it is told once a window.

    Arguments:
        clock: seconds that never go back.
        seconds: how long a window is.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, seconds: float = WINDOW_SECONDS
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        # All windows are of one length, so the first in it ends first.
        self._windows: OrderedDict[Hashable, _Window] = OrderedDict()

    def take(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """Return what is to be written now: sums that are due, and the record unless it repeats."""
        told = self.due()
        kind = _kind_of(record)
        if kind is None:
            return [*told, record]
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= KINDS:
                _, oldest = self._windows.popitem(last=False)
                told += _sum(oldest, self._seconds)
            self._windows[kind] = _Window(self._clock() + self._seconds)
            return [*told, record]
        times = getattr(record, "times", None)
        window.count += times or 1
        if times is None or window.last is None:
            window.last = _bare(record)
        return told

    def due(self) -> list[logging.LogRecord]:
        """Return the sums of the windows that have ended; a kind that goes on has another."""
        now = self._clock()
        told: list[logging.LogRecord] = []
        while self._windows:
            kind, window = next(iter(self._windows.items()))
            if window.end > now:
                break
            del self._windows[kind]
            if window.count:
                told += _sum(window, self._seconds)
                self._windows[kind] = _Window(now + self._seconds)
        return told

    def rest(self) -> list[logging.LogRecord]:
        """Return the sums of all windows, ended or not, and forget them."""
        now = self._clock()
        told = []
        for window in self._windows.values():
            told += _sum(window, max(1.0, self._seconds - (window.end - now)))
        self._windows.clear()
        return told

    def seconds_left(self) -> float | None:
        """Return when the first sum is due, in seconds from now; None when nothing is counted."""
        ends = (window.end for window in self._windows.values() if window.count)
        end = next(ends, None)
        return None if end is None else max(0.0, end - self._clock())


def _kind_of(record: logging.LogRecord) -> Hashable | None:
    """Return what makes records the same; None for those that are never summed up."""
    if not logging.INFO <= record.levelno < logging.CRITICAL or not _is_ours(record):
        return None
    if _is_of_brokers(record):
        return "brokers"
    template: object = getattr(record, "template", record.msg)
    if record.levelno < logging.WARNING or template == "%s":
        template = text_of(record)  # each is news, unless it says the very same
    error = error_of(record)
    return (
        record.levelno,
        str(template).partition("\n")[0],  # behind it asyncio tells which task it was
        component_of(record) or record.name,
        error if isinstance(error, str) else type(error).__qualname__,
        getattr(record, "apart", None),
    )


def _is_of_brokers(record: logging.LogRecord) -> bool:
    """Say whether aiokafka tells that a broker does not answer, which it does in many words."""
    if not record.name.startswith("aiokafka"):
        return False
    error = error_of(record)
    if error is None:
        return str(record.msg).startswith(_OUTAGE)
    return getattr(error, "retriable", False) or isinstance(error, OSError | TimeoutError)


def _is_ours(record: logging.LogRecord) -> bool:
    if record.pathname.startswith(_PACKAGE):
        return True
    return record.name.partition(".")[0] in _LIBRARIES and record.name != _PRINTED


def _bare(record: logging.LogRecord) -> logging.LogRecord:
    """Return what is kept of a record: no arguments, no frames, which hold on to events."""
    kept = logging.LogRecord(
        record.name, record.levelno, record.pathname, record.lineno, text_of(record), None, None
    )
    about = {name: vars(record)[name] for name in _KEPT if name in vars(record)}
    error = error_of(record)
    if error is not None:
        about["error"] = error if isinstance(error, str) else type(error).__qualname__
    vars(kept).update(about)
    return kept


def _sum(window: _Window, seconds: float) -> list[logging.LogRecord]:
    last = window.last
    if last is None:
        return []
    again = "1 more time" if window.count == 1 else f"{window.count:,} more times"
    last.msg = f"{again} in {seconds:.0f} s, the last: {last.msg}"
    last.created = time.time()
    vars(last)["times"] = window.count
    return [last]
