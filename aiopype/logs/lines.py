"""The handler: lines on a stream, the same fault once and then its number."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import TextIO

from aiopype.logs.forms import JsonForm
from aiopype.logs.repeats import Repeats

__all__ = ["Lines", "are_for_programs", "are_summed_up"]


class Lines(logging.StreamHandler[TextIO]):
    """Writes records as they come; those that repeat are counted and told once a minute.

    What is counted is told at the latest when the handler is closed, as at the program's end.

    Arguments:
        stream: where to; standard error if not given.
        repeats: says which records are the same again.
    """

    def __init__(self, stream: TextIO | None = None, repeats: Repeats | None = None) -> None:
        super().__init__(stream)
        self._repeats = repeats or Repeats()
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        self._write(self._repeats.take(record))
        self._wait()

    def close(self) -> None:
        """Tell what is counted."""
        with self._alone():
            if self._timer is not None:
                self._timer.cancel()
            self._write(self._repeats.rest())
        super().close()

    def _write(self, records: list[logging.LogRecord]) -> None:
        for record in records:
            super().emit(record)

    def _wait(self) -> None:
        """Have the sums told when they are due, though nothing more is logged."""
        seconds = self._repeats.seconds_left() if self._timer is None else None
        if seconds is not None:
            self._timer = threading.Timer(seconds, self._tell)
            self._timer.name = "sums of the log"
            self._timer.daemon = True
            with contextlib.suppress(RuntimeError):  # the interpreter ends; `close` tells
                self._timer.start()

    def _tell(self) -> None:
        with self._alone():
            self._timer = None
            self._write(self._repeats.due())
            self._wait()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()


def are_summed_up() -> bool:
    """Say whether the program's log sums up what repeats."""
    return any(isinstance(handler, Lines) for handler in logging.getLogger().handlers)


def are_for_programs() -> bool:
    """Say whether the program's log is of JSON: whoever reads it expects nothing else."""
    return any(isinstance(each.formatter, JsonForm) for each in logging.getLogger().handlers)
