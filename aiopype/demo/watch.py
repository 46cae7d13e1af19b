"""Looks on while the flow runs: tells how far it is, and ends it when there is no more to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiopype.demo.outputs import Outputs

__all__ = ["watching"]

LOOK_SECONDS = 0.2
TELL_SECONDS = 2.0


@contextmanager
def watching(
    outputs: Outputs,
    stop: Callable[[], None],
    limit_seconds: float,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Follow the files in a thread of its own during a `with` statement.

    A flow does not end by itself: nobody in it can know that nothing more will come. Here it is
    known what must come, so `stop` is called, once, when it is there, or when the time is over.

    Arguments:
        outputs: the files.
        stop: ends the flow; called from the thread.
        limit_seconds: after this much time the flow is ended as it is.
        say: takes a line for a person, every two seconds; called from the thread.
    """
    left = threading.Event()

    def watch() -> None:
        began = told = time.monotonic()
        while not left.wait(LOOK_SECONDS):
            progress = _Progress(outputs)
            now = time.monotonic()
            if progress.is_begun and (progress.is_complete or now - told >= TELL_SECONDS):
                told = now
                say(str(progress))
            if progress.is_complete or now - began >= limit_seconds:
                if not progress.is_complete:
                    say(f"Not complete after {limit_seconds:g} s; ending it as it is.")
                stop()
                return

    thread = threading.Thread(target=watch, name="watch")
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


class _Progress:
    """What is in the files at a moment."""

    def __init__(self, outputs: Outputs) -> None:
        self._prices = outputs.prices.rows()
        self._busy = outputs.busy.rows()
        self._trades = outputs.trades.rows()
        self.is_begun = bool(self._prices)
        self.is_complete = (
            len(self._prices) >= len(outputs.prices.expected)
            and len(self._busy) >= len(outputs.busy.expected)
            and len(self._trades) >= len(outputs.trades.expected)
            and bool(outputs.gaps.rows())
        )

    def __str__(self) -> str:
        last = "  ".join(f"{field:>8}" for field in self._prices[-1])
        days, busy, trades = len(self._prices), len(self._busy), len(self._trades)
        return f"  {last}   {days:5,} days, {busy:3} busy   {trades:5,} trades"
